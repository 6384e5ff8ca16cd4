"""Every error as the SDK's exception, saying what is wrong; and never two jobs for one call."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import openai
import pytest
import requests
from django.db import connections
from django.utils import timezone
from openai import OpenAI

from accounts.models import ApiToken, Quota, User
from generation import waiting
from generation.models import Job
from gpu.models import Pool
from tests.e2e.studio import wait_for
from tests.generation.openai_api.conftest import PROMPT

Sdk = Callable[..., OpenAI]


def refused(client: OpenAI, error: type[openai.APIStatusError], **asked: Any) -> Any:
    """The exception of a call, which made no job."""
    with pytest.raises(error) as caught:
        client.images.generate(**{"prompt": PROMPT, **asked})
    assert not Job.objects.exists()
    return caught.value


@pytest.mark.parametrize(
    ("asked", "param", "says"),
    [
        (
            {"size": "1024x1024"},
            "size",
            "1024 does not fit fluxsite demo. Use a multiple of 16 from 64 to 256.",
        ),
        ({"size": "1024x1024"}, "size", "Or send auto, for 128x128."),
        ({"size": "large"}, "size", "Use auto, or a size such as 128x128."),
        ({"n": 10}, "n", "Use a whole number from 1 to 4."),
        ({"prompt": " "}, "prompt", "Write a prompt"),
        ({"prompt": "a" * 5000}, "prompt", "5,000 characters. Use at most 4,000."),
        ({"response_format": "uri"}, "response_format", "“uri” cannot be had. Use b64_json or url."),
        ({"output_format": "gif"}, "output_format", "“gif” cannot be had. Use png or webp or jpeg."),
        ({"background": "transparent"}, "background", "“transparent” cannot be had. Use auto or opaque."),
        ({"extra_body": {"seed": -1}}, "seed", "Use a whole number from 0 to 9007199254740991."),
        ({"extra_body": {"steps": 99}}, "steps", "Use a whole number from 1 to 50."),
        (
            {"extra_body": {"loras": "night"}},
            "loras",
            'Use a list such as [{"name": "night", "weight": 0.8}]',
        ),
        ({"extra_body": {"loras": [{"name": "no"}]}}, "loras", "There is no LoRA no that you may use."),
        ({"extra_body": {"loras": [{}]}}, "loras.0.slug", "required"),
        ({"model": 7}, "model", "Use the name of a model"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(sdk: Sdk, asked: Any, param: str, says: str) -> None:
    error = refused(sdk(), openai.BadRequestError, **asked)
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert says in error.body["message"]


@pytest.mark.parametrize("name", ["gpt-5", "fluxsite-demo:nowhere", "fluxsite-demo-fp8", "nowhere:night"])
def test_a_model_that_is_none_is_not_found(sdk: Sdk, name: str) -> None:
    error = refused(sdk(), openai.NotFoundError, model=name)
    assert (error.code, error.param) == ("model_not_found", "model")
    assert f"There is no model {name} that you may use. Use fluxsite-demo" in error.body["message"]
    with pytest.raises(openai.NotFoundError, match="There is no model"):
        sdk().models.retrieve(name)


def test_aliases_can_be_switched_off(sdk: Sdk, settings: Any) -> None:
    settings.FLUXSITE_OPENAI_ALIASES = []
    assert refused(sdk(), openai.NotFoundError, model="gpt-image-1").code == "model_not_found"


def test_a_wrong_token_is_an_authentication_error(sdk: Sdk, alice: User) -> None:
    _, expired = ApiToken.objects.create(alice, name="old")
    ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    for token, says in (("sk-wrong", "There is no such token"), (expired, "This token has expired")):
        error = refused(sdk(token), openai.AuthenticationError)
        assert error.code == "invalid_api_key"
        assert says in error.body["message"]


def test_a_scope_that_is_missing_is_named(sdk: Sdk, alice: User) -> None:
    token = ApiToken.issue(alice, "reads", ["read"], timedelta(days=1))
    error = refused(sdk(token), openai.PermissionDeniedError)
    assert (error.type, error.code) == ("permission_error", "missing_scope")
    assert "lacks the scope generate" in error.body["message"]


def test_a_quota_is_a_rate_limit_that_is_not_tried_again(sdk: Sdk, alice: User) -> None:
    Quota.objects.create(user=alice, images_a_day=1)
    error = refused(sdk(), openai.RateLimitError, n=2)
    assert (error.type, error.code) == ("rate_limit_error", "quota_images_a_day")
    assert "1 of today's 1 pictures are left; this job asks for 2." in error.body["message"]
    assert error.body["limit"] == 1
    assert error.response.headers["x-should-retry"] == "false"
    assert int(error.response.headers["Retry-After"]) > 0


def test_a_full_queue_may_be_tried_again(sdk: Sdk) -> None:
    for engine in ("fp4", "bf16"):
        Pool.objects.update_or_create(engine=engine, defaults={"queue_limit": 0})
    error = refused(sdk(max_retries=0), openai.RateLimitError)
    assert error.code == "queue_full"
    assert "x-should-retry" not in error.response.headers
    assert error.response.headers["Retry-After"] == "10"


def test_more_waiting_requests_than_may_are_told_to_come_again(sdk: Sdk, settings: Any) -> None:
    settings.FLUXSITE_WAITING_REQUESTS = 0
    error = refused(sdk(max_retries=0), openai.InternalServerError)
    assert (error.status_code, error.code) == (503, "busy")
    assert error.response.headers["Retry-After"] == "5"


def test_a_picture_to_edit_or_to_vary_is_refused_without_reading_it(sdk: Sdk) -> None:
    picture = ("a.png", b"\x89PNG" * 1_000_000, "image/png")
    with pytest.raises(openai.BadRequestError, match="draws from text only"):
        sdk().images.edit(image=picture, prompt=PROMPT)
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.BadRequestError, match="from text only"),
    ):
        sdk().images.create_variation(image=picture)


def test_an_address_that_is_none_says_which_there_are(sdk: Sdk) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no POST /v1/chat/completions here"):
        sdk().chat.completions.create(model="gpt-5", messages=[])


def post(live_server: Any, alice: User, body: bytes, **headers: str) -> Any:
    _, token = ApiToken.objects.create(alice, name="raw")
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    return requests.post(f"{live_server.url}/v1/images/generations", body, headers=sent, timeout=30)


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b'{"prompt": ', {}, 400, "JSON parse error"),
        (b"[]", {}, 400, "The body must be a JSON object."),
        (b"[" * 100_000, {}, 400, "nested too deeply"),
        (b'{"prompt": "broken \\ud800 text"}', {}, 400, "Surrogate characters are not allowed"),
        (b" " * 1_100_000, {}, 413, "larger than 1,000,000 bytes"),
        (
            b"prompt=star",
            {"Content-Type": "application/x-www-form-urlencoded"},
            415,
            "Unsupported media type",
        ),
        (b"{}", {"Authorization": ""}, 401, "Authentication credentials were not provided."),
    ],
)
def test_whatever_is_sent_the_shape_is_the_same(
    live_server: Any, alice: User, body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    response = post(live_server, alice, body, **headers)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert says in error["message"]
    assert not Job.objects.exists()


def test_a_method_that_is_none_has_the_shape_too(live_server: Any, sdk: Sdk) -> None:
    response = requests.delete(
        f"{live_server.url}/v1/images/generations",
        headers={"Authorization": f"Bearer {sdk().api_key}"},
        timeout=9,
    )
    assert response.status_code == 405
    assert "DELETE" in response.json()["error"]["message"]


def test_what_nobody_expected_is_a_safe_sentence_and_tried_once(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def submit(*args: Any, **kwargs: Any) -> Job:
        calls.append(args)
        raise RuntimeError("secret")

    monkeypatch.setattr(Job, "submit", submit)
    error = refused(sdk(), openai.InternalServerError)
    assert (error.status_code, error.type) == (500, "server_error")
    assert "secret" not in error.response.text
    assert len(calls) == 1


def test_a_timeout_makes_one_job_and_says_where_it_is(sdk: Sdk, settings: Any) -> None:
    settings.FLUXSITE_WAIT_SECONDS = 0.1
    with pytest.raises(openai.InternalServerError) as caught:
        sdk().images.generate(prompt=PROMPT)
    error: Any = caught.value
    job = Job.objects.get()
    assert (error.status_code, error.code, error.body["job"]) == (504, "timeout", str(job.pk))
    assert f"/jobs/{job.pk}/" in error.body["message"]
    assert job.state == "queued"


def test_a_client_that_gives_up_and_asks_again_makes_one_job(sdk: Sdk) -> None:
    with pytest.raises(openai.APITimeoutError):  # each try gives the server time to make the job
        sdk(timeout=2, max_retries=1).images.generate(prompt=PROMPT)
    assert Job.objects.count() == 1
    Job.objects.update(state="cancelled")
    wait_for(lambda: not waiting._taken)  # nobody of this test holds a place in the next one


def test_a_key_makes_one_job_of_two_calls(sdk: Sdk, settings: Any) -> None:
    settings.FLUXSITE_WAIT_SECONDS = 0
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            sdk().images.generate(prompt=PROMPT, extra_headers={"Idempotency-Key": "first"})
    assert Job.objects.count() == 1
    with pytest.raises(openai.UnprocessableEntityError, match="sent before with another body"):
        sdk().images.generate(prompt="another", extra_headers={"Idempotency-Key": "first"})


def events_of(client: OpenAI, stream: bool) -> Iterator[Any]:
    """The events of a call; of one without ``stream`` its answer alone."""
    answer: Any = client.images.generate(prompt=PROMPT, stream=stream)
    yield from answer if stream else [answer]


def end_when_it_comes(**fields: Any) -> threading.Thread:
    """A worker's last word on the next job."""

    def end() -> None:
        while not Job.objects.filter(state="queued").update(**fields):
            time.sleep(0.02)
        connections.close_all()

    thread = threading.Thread(target=end)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("code", "error", "status"),
    [
        ("out_of_memory", openai.BadRequestError, 400),
        ("lora", openai.BadRequestError, 400),
        ("worker_died", openai.InternalServerError, 500),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_job_that_fails_says_why_and_is_not_tried_again(
    sdk: Sdk, code: str, error: type[openai.APIStatusError], status: int, stream: bool
) -> None:
    worker = end_when_it_comes(state="failed", error_code=code, error="It went wrong: do something else.")
    with pytest.raises(
        openai.APIError if stream else error, match="It went wrong: do something else"
    ) as caught:
        list(events_of(sdk(), stream))
    worker.join()
    assert caught.value.code == code
    assert Job.objects.count() == 1
    assert stream or getattr(caught.value, "status_code", 0) == status


def test_a_job_that_is_cancelled_is_a_conflict(sdk: Sdk) -> None:
    worker = end_when_it_comes(state="cancelled")
    with pytest.raises(openai.ConflictError, match="The job was cancelled"):
        sdk().images.generate(prompt=PROMPT)
    worker.join()
    assert Job.objects.count() == 1


def test_the_places_to_wait_are_given_back(sdk: Sdk, settings: Any) -> None:
    settings.FLUXSITE_WAIT_SECONDS, settings.FLUXSITE_WAITING_REQUESTS = 0, 1
    client = sdk(max_retries=0)
    for stream in (False, True, False):
        with pytest.raises(openai.APIError, match="is not there after 0 s"):
            list(events_of(client, stream))
    assert Job.objects.count() == 3
