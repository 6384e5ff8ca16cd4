"""From a token to a picture, over HTTP, with real processes."""

import hashlib

import pytest
import requests

from tests.e2e.pixels import mean, nearest, opened, pixels
from tests.e2e.studio import Api, Studio

STAR = "a big yellow star on a blue background"


def test_a_prompt_becomes_the_picture_it_asks_for(api: Api) -> None:
    (png,) = api.draw(STAR, width=128, height=128, seed=1)
    image = opened(png)
    assert image.size == (128, 128)
    assert nearest(mean(image, 0.45, 0.45, 0.55, 0.55)) == "yellow"
    for left, top in ((0.02, 0.02), (0.88, 0.02), (0.02, 0.88), (0.88, 0.88)):
        assert nearest(mean(image, left, top, left + 0.1, top + 0.1)) == "blue"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(api: Api) -> None:
    asked = {"width": 128, "height": 96, "count": 2}
    first, again, other = (api.draw(STAR, seed=seed, **asked) for seed in (5, 5, 50))
    assert first == again
    assert len(set(map(pixels, first + other))) == 4


def test_a_seed_left_out_is_recorded_and_draws_the_picture_again(api: Api) -> None:
    job = api.finished(api.submit(STAR, width=64, height=64)["id"])
    (png,) = (api.session.get(image["file"]).content for image in job["images"])
    assert api.draw(STAR, width=64, height=64, seed=job["seed"]) == [png]


@pytest.mark.parametrize("engine", ["bf16", "fp4"])
def test_two_loras_change_the_picture_by_their_weights_and_leave_the_next_one_alone(
    api: Api, engine: str
) -> None:
    asked = {"width": 64, "height": 64, "seed": 3, "engine": engine}
    plain = api.draw(STAR, **asked)
    one, other = (
        api.draw(
            STAR, **asked, loras=[{"slug": "night", "weight": night}, {"slug": "outline", "weight": 0.6}]
        )
        for night in (1.0, 0.4)
    )
    assert len(set(map(pixels, plain + one + other))) == 3
    assert api.draw(STAR, **asked) == plain


def test_what_the_model_did_not_read_of_a_prompt_is_told(api: Api) -> None:
    job = api.finished(api.submit(f"{STAR} {STAR} {STAR} and a fox", width=64, height=64)["id"])
    assert "Not read:" in job["notice"]
    assert job["notice"].endswith("and a fox”")


def test_a_stored_file_matches_its_hash(api: Api) -> None:
    job = api.finished(api.submit(STAR, width=64, height=64)["id"])
    (image,) = job["images"]
    png = api.session.get(image["file"])
    assert hashlib.sha256(png.content).hexdigest() == image["sha256"]
    assert (len(png.content), png.headers["Content-Type"]) == (image["size"], "image/png")
    assert "private" in png.headers["Cache-Control"]
    listed = api.session.get(f"{api.url}/images/").json()["results"]
    assert listed[0]["id"] == image["id"]


def test_a_picture_needs_its_owners_token(studio: Studio, api: Api) -> None:
    job = api.finished(api.submit(STAR, width=64, height=64)["id"])
    file = job["images"][0]["file"]
    studio.shell("from accounts.models import User; print(User.objects.create_user('charlie'))")
    stranger = Api(studio, studio.token("charlie"))
    assert requests.get(file, timeout=10).status_code == 401
    for address in (file, f"{api.url}/jobs/{job['id']}/", job["images"][0]["thumbnail"]):
        assert stranger.session.get(address).status_code == 404
    assert requests.get(f"{studio.url}/healthz", timeout=10).status_code == 200
