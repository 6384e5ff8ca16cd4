"""The ``openai`` package and what other clients send, against real processes and the demo model."""

import base64
import io
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import openai
import PIL.Image
import pytest
import requests
from openai import OpenAI

from tests.e2e.pixels import mean, nearest, opened
from tests.e2e.studio import Api, Studio

STAR = "a big yellow star on a blue background"
SMALL: dict[str, Any] = {"prompt": STAR, "size": "64x64", "model": "fluxsite-demo-bf16"}


@pytest.fixture(scope="module")
def sdk(studio: Studio) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{studio.url}/v1", api_key=studio.token("alice")) as client:
        yield client


def decoded(picture: Any) -> bytes:
    assert picture.url is None
    return base64.b64decode(picture.b64_json)


def format_and_size(content: bytes) -> tuple[str | None, tuple[int, int]]:
    with PIL.Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.format, image.size


def test_a_prompt_becomes_a_picture_in_the_models_own_size(sdk: OpenAI) -> None:
    answer = sdk.images.generate(prompt=STAR, extra_body={"seed": 1})
    (picture,) = answer.data or []
    assert format_and_size(decoded(picture)) == ("PNG", (128, 128))
    image = opened(decoded(picture))
    assert nearest(mean(image, 0.45, 0.45, 0.55, 0.55)) == "yellow"
    assert (answer.size, answer.output_format, answer.background) == ("128x128", "png", "opaque")
    assert answer.created > 1_700_000_000


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("response_format", ["b64_json", "url"])
def test_every_format_comes_either_way(sdk: OpenAI, output_format: Any, response_format: Any) -> None:
    answer = sdk.images.generate(
        **SMALL, n=2, output_format=output_format, output_compression=80, response_format=response_format
    )
    assert answer.data is not None
    assert len(answer.data) == 2
    for picture in answer.data:
        if response_format == "url":
            assert picture.b64_json is None
            fetched = requests.get(str(picture.url), timeout=30)  # without a token
            assert fetched.headers["Content-Type"] == f"image/{output_format}"
            content = fetched.content
        else:
            content = decoded(picture)
        assert format_and_size(content) == (output_format.upper(), (64, 64))


def test_the_same_recipe_gives_the_same_bytes_as_our_own_api(sdk: OpenAI, api: Api) -> None:
    own = api.draw(STAR, width=64, height=64, seed=3, steps=2, loras=[{"slug": "night", "weight": 0.6}])
    extra = {"seed": 3, "steps": 2, "loras": [{"name": "night", "weight": 0.6}]}
    (picture,) = sdk.images.generate(**SMALL, extra_body=extra).data or []
    assert decoded(picture) == own[0]


def test_a_model_name_carries_a_lora_at_the_weight_its_owner_recommends(sdk: OpenAI, api: Api) -> None:
    (night,) = (
        lora for lora in api.session.get(f"{api.url}/loras/").json()["results"] if lora["slug"] == "night"
    )
    chosen = [{"slug": "night", "weight": night["recommended_weight"]}]
    own = api.draw(STAR, width=64, height=64, seed=3, loras=chosen)
    named = {**SMALL, "model": "fluxsite-demo-bf16:night"}
    (picture,) = sdk.images.generate(**named, extra_body={"seed": 3}).data or []
    assert decoded(picture) == own[0]


def test_models_are_engines_and_loras(sdk: OpenAI) -> None:
    names = [model.id for model in sdk.models.list()]
    assert names[:3] == ["fluxsite-demo", "fluxsite-demo-fp4", "fluxsite-demo-bf16"]
    assert {"fluxsite-demo:night", "fluxsite-demo:outline"} <= set(names)
    for name in (*names, "gpt-image-1"):
        model = sdk.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (name, "model", "fluxsite")


@pytest.mark.parametrize("partial_images", [0, 2])
def test_pictures_come_as_events_while_others_are_drawn(sdk: OpenAI, partial_images: int) -> None:
    events = list(sdk.images.generate(**SMALL, n=2, stream=True, partial_images=partial_images))
    kinds = ["partial_image", "completed"] if partial_images else ["completed"]
    assert [event.type for event in events] == [f"image_generation.{kind}" for kind in kinds * 2]
    for event in events:
        assert opened(base64.b64decode(event.b64_json)).size == (64, 64)
        assert (event.size, event.output_format, event.quality) == ("64x64", "png", "auto")


def test_a_stream_that_is_left_leaves_its_job(sdk: OpenAI, api: Api) -> None:
    events = sdk.images.generate(**SMALL, n=2, stream=True)
    first: Any = next(iter(events))
    events.close()
    assert api.finished(first.job)["state"] == "succeeded"


# What other programs send, as their sources have it.
CLIENTS: dict[str, dict[str, Any]] = {
    "Open WebUI": {
        "model": "gpt-image-1", "prompt": STAR, "n": 1, "size": "256x256", "response_format": "b64_json",
    },
    "LibreChat": {
        "model": "gpt-image-2.5-flare", "prompt": STAR, "n": 1, "background": "auto", "quality": "auto",
        "size": "auto", "output_format": "png",
    },
    "n8n": {
        "prompt": STAR, "model": "dall-e-3", "n": 1, "quality": "standard", "style": "vivid",
        "response_format": "b64_json", "size": None, "user": None,
    },
    "LangChain": {"prompt": STAR, "model": "fluxsite-demo", "n": 1, "size": "auto", "quality": "hd"},
}  # fmt: skip


@pytest.mark.parametrize("client", CLIENTS)
def test_what_other_clients_send_is_drawn(studio: Studio, sdk: OpenAI, client: str) -> None:
    headers = {"Authorization": f"Bearer {sdk.api_key}", "Accept": "application/json, text/event-stream"}
    address = f"{studio.url}/v1/images/generations"
    response = requests.post(address, json=CLIENTS[client], headers=headers, timeout=120)
    assert response.status_code == 200, response.text
    (picture,) = response.json()["data"]
    assert "url" not in picture
    assert format_and_size(decoded(SimpleNamespace(url=None, **picture)))[0] == "PNG"


def test_a_large_body_that_nobody_reads_is_answered_all_the_same(sdk: OpenAI) -> None:
    picture = ("a.png", b"\x89PNG" * 1_000_000, "image/png")
    with pytest.raises(openai.BadRequestError, match="draws from text only"):
        sdk.images.edit(image=picture, prompt=STAR)


def test_a_call_that_the_client_gives_up_makes_exactly_one_job(sdk: OpenAI, api: Api) -> None:
    before = api.session.get(f"{api.url}/jobs/?limit=1").json()["results"][0]["id"]
    with suppress(openai.APITimeoutError):  # the last time it asks the pictures may be there
        sdk.with_options(timeout=1, max_retries=2).images.generate(
            prompt=STAR, size="256x256", n=4, extra_body={"steps": 12}
        )
    jobs = [job["id"] for job in api.session.get(f"{api.url}/jobs/").json()["results"]]
    assert jobs.index(before) == 1
    assert api.finished(jobs[0])["state"] == "succeeded"


def test_waiting_is_a_header_of_our_own_api(api: Api) -> None:
    body = {"prompt": STAR, "width": 64, "height": 64}
    response = api.session.post(f"{api.url}/jobs/", json=body, headers={"Prefer": "wait=60"})
    assert (response.status_code, response.headers["Preference-Applied"]) == (201, "wait=60")
    assert response.json()["state"] == "succeeded"
    assert len(response.json()["images"]) == 1
