"""The job API: what it takes, what it refuses and in which words, and what it keeps from strangers."""

import json
from typing import Any

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from accounts.models import ApiToken, User
from generation.models import Job
from loras import library
from loras.models import Admission, Lora
from tests.conftest import asked, client_of, submit


def post(client: APIClient, body: Any) -> Any:
    return client.post("/api/v1/jobs/", body, format="json")


def reason(response: Any, field: str) -> str:
    """The reason given for ``field``; fails when the answer has another shape."""
    assert response.status_code == 400, response.content
    answer = response.json()
    assert answer["type"] == "validation_error"
    return next(str(error["detail"]) for error in answer["errors"] if error["attr"] == field)


def test_it_makes_a_job(alice: User) -> None:
    response = post(client_of(alice), asked(seed=7, count=2))
    assert response.status_code == 201
    job = Job.objects.get()
    answer = response.json()
    assert answer["id"] == str(job.pk)
    assert response["Location"] == answer["urls"]["self"] == f"http://testserver/api/v1/jobs/{job.pk}/"
    assert (answer["state"], answer["seed"], answer["images"], answer["error"]) == ("queued", 7, [], None)
    assert answer["progress"] == {"stage": "queued", "picture": 1, "pictures": 2, "step": 0, "steps": 4}
    assert (job.owner, job.prompt, job.count) == (alice, asked()["prompt"], 2)


def test_only_the_prompt_is_needed(alice: User) -> None:
    answer = post(client_of(alice), {"prompt": "a red circle"}).json()
    assert (answer["count"], answer["steps"], answer["engine"]) == (1, 4, "bf16")
    assert answer["width"] == answer["height"] >= 64
    assert 0 <= answer["seed"] < 2**32


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("width", 100, "Use a multiple of 16 from 64 to 256"),
        ("width", 48, "Use a multiple of 16 from 64 to 256"),
        ("height", 272, "Use a multiple of 16 from 64 to 256"),
        ("height", 1e9, "Use a multiple of 16 from 64 to 256"),
        ("width", "wide", "whole number of pixels"),
        ("width", None, "may not be null"),
        ("count", 0, "from 1 to 4"),
        ("count", 5, "from 1 to 4"),
        ("steps", 0, "from 1 to 50"),
        ("seed", -1, "from 0 to 9007199254740991"),
        ("seed", 2**53, "from 0 to 9007199254740991"),
        ("seed", "9" * 2000, "from 0 to 9007199254740991"),
        ("seed", 1.5, "from 0 to 9007199254740991"),
        ("prompt", "", "Write a prompt"),
        ("prompt", "  \n ", "Write a prompt"),
        ("prompt", "a" * 5000, "5,000 characters. Use at most 4,000."),
        ("prompt", "nul \x00 byte", "Null characters are not allowed"),
        ("prompt", ["a list"], "Not a valid string"),
        ("engine", "fp16", "There is no engine fp16. Use fp4 or bf16"),
        ("loras", "night", "list of items"),
        ("loras", [{"slug": "nowhere"}], "There is no LoRA nowhere that you may use"),
        ("guidance", 4, "There is no field of this name. Allowed: prompt, width"),
    ],
)
def test_bad_input_names_field_reason_and_range(alice: User, field: str, value: Any, says: str) -> None:
    response = post(client_of(alice), asked(**{field: value}))
    assert says in reason(response, field)
    assert not Job.objects.exists()


def test_the_last_seed_of_several_pictures_fits_too(alice: User) -> None:
    response = post(client_of(alice), asked(seed=2**53 - 2, count=3))
    assert "With 3 pictures use a whole number from 0 to 9007199254740989" in reason(response, "seed")


def test_a_missing_prompt_is_named(alice: User) -> None:
    assert "Write a prompt" in reason(post(client_of(alice), {}), "prompt")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"prompt": ', "JSON parse error"),
        (b"", "Write a prompt"),
        (b'{"prompt": NaN}', "Out of range float values are not JSON compliant"),
        (b"\xff\xfe", "can't decode"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_body_that_is_not_json_gets_400(alice: User, body: bytes, says: str) -> None:
    response = client_of(alice).post("/api/v1/jobs/", body, content_type="application/json")
    assert response.status_code == 400
    assert says in response.json()["errors"][0]["detail"]


def test_a_body_too_large_gets_413(alice: User) -> None:
    response = post(client_of(alice), asked(prompt="a" * 1_100_000))
    assert response.status_code == 413
    assert "larger than 1,000,000 bytes" in response.json()["errors"][0]["detail"]


def test_a_lone_surrogate_gets_400_and_lists_go_on_working(alice: User) -> None:
    client = client_of(alice)
    body = json.dumps(asked(prompt="broken \ud800 text"))
    response = client.post("/api/v1/jobs/", body, content_type="application/json")
    assert "Surrogate characters are not allowed" in reason(response, "prompt")
    assert client.get("/api/v1/jobs/").json()["results"] == []


@pytest.mark.parametrize("body", ["[]", '"text"', "7", "null"])
def test_json_that_is_no_object_gets_400(alice: User, body: str) -> None:
    response = client_of(alice).post("/api/v1/jobs/", body, content_type="application/json")
    assert response.status_code == 400


@pytest.mark.parametrize("weight", ["nan", "inf", 4.01, -5, "heavy", None])
def test_a_lora_weight_out_of_range_is_refused(alice: User, weight: Any, night: Lora) -> None:
    response = post(client_of(alice), asked(loras=[{"slug": "night", "weight": weight}]))
    assert response.status_code == 400
    assert response.json()["errors"][0]["attr"] == "loras.0.weight"


@pytest.fixture
def night(db: None) -> Lora:
    return lora("night")


def lora(slug: str, **changes: Any) -> Lora:
    facts = {
        "name": slug.title(),
        "sha256": "ab" * 32,
        "size": 1,
        "family": "demo",
        "state": "ready",
        "visibility": "everyone",
    }
    return Lora.objects.create(slug=slug, **{**facts, **changes})


def test_loras_are_kept_in_order_with_weight_name_and_hash(alice: User, night: Lora) -> None:
    lora("outline")
    chosen = [{"slug": "outline", "weight": 0.6}, {"slug": "night", "weight": -1}]
    answer = post(client_of(alice), asked(loras=chosen)).json()
    kept = [(entry["slug"], entry["weight"]) for entry in answer["loras"]]
    assert kept == [("outline", 0.6), ("night", -1.0)]
    night.delete()
    assert Job.objects.get().job_loras.get(slug="night").sha256 == "ab" * 32


@pytest.mark.parametrize(
    "unusable",
    [{"state": "refused"}, {"state": "validating"}, {"family": "flux1"}, {"visibility": "private"}],
)
def test_a_lora_that_is_not_mine_to_use_does_not_exist(alice: User, unusable: dict[str, str]) -> None:
    lora("secret", **unusable)
    response = post(client_of(alice), asked(loras=[{"slug": "secret"}]))
    assert "There is no LoRA secret that you may use" in reason(response, "loras")


def test_a_lora_is_named_once_and_at_most_eight_times(alice: User, night: Lora) -> None:
    client = client_of(alice)
    assert "named twice" in reason(post(client, asked(loras=[{"slug": "night"}] * 2)), "loras")
    assert "Use at most 8" in reason(
        post(client, asked(loras=[{"slug": f"l{i}"} for i in range(9)])), "loras"
    )


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer fx_wrong", "Token fx_wrong", "Bearer a b", "Bearer \xe9\xff"]
)
def test_a_wrong_token_gets_401(db: None, header: str) -> None:
    client = APIClient()
    client.credentials(**({"HTTP_AUTHORIZATION": header} if header else {}))
    response = post(client, asked())
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response.json()["type"] == "client_error"


@pytest.mark.parametrize("scheme", ["Bearer", "Token", "bearer"])
def test_it_takes_tokens_under_both_names(alice: User, scheme: str) -> None:
    _, token = ApiToken.objects.create(alice, name="n8n")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {token}")
    assert client.get("/api/v1/jobs/").status_code == 200


def test_a_session_without_csrf_token_cannot_submit(alice: User) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(alice)
    assert post(client, asked()).status_code == 403


def test_a_job_is_nobody_elses(alice: User, bob: User, charlie: User) -> None:
    job = submit(alice)
    assert client_of(alice).get(f"/api/v1/jobs/{job.pk}/").status_code == 200
    for other in (client_of(bob), client_of(charlie)):
        assert other.get(f"/api/v1/jobs/{job.pk}/").status_code == 404
        assert other.post(f"/api/v1/jobs/{job.pk}/cancel/").status_code == 404
        assert other.get("/api/v1/jobs/").json()["results"] == []
    job.refresh_from_db()
    assert job.state == "queued"


@pytest.mark.parametrize("pk", ["1", "nonsense", "00000000-0000-0000-0000-000000000000"])
def test_an_id_that_is_none_gets_404(alice: User, pk: str) -> None:
    assert client_of(alice).get(f"/api/v1/jobs/{pk}/").status_code == 404
    assert client_of(alice).get(f"/api/v1/images/{pk}/file/").status_code == 404


def test_cancel_stops_a_waiting_job_once(alice: User) -> None:
    job, client = submit(alice), client_of(alice)
    assert client.post(f"/api/v1/jobs/{job.pk}/cancel/").json()["state"] == "cancelled"
    assert client.post(f"/api/v1/jobs/{job.pk}/cancel/").status_code == 409


def test_the_list_is_newest_first_and_goes_on_by_cursor(alice: User) -> None:
    jobs = [str(submit(alice).pk) for _ in range(5)]
    client = client_of(alice)
    first = client.get("/api/v1/jobs/?limit=3").json()
    second = client.get(first["next"]).json()
    assert [job["id"] for job in first["results"] + second["results"]] == jobs[::-1]
    assert second["next"] is None


def test_a_job_is_asked_for_again_with_everything_it_had(alice: User) -> None:
    loras = library.add_demo_loras()
    job = submit(alice, seed=5, count=2, loras=[(loras[1], 0.5), (loras[0], -0.25)])
    response = client_of(alice).post(reverse("api:job-retry", args=[job.pk]))
    again = response.json()
    assert response.status_code == 201
    assert again["id"] != str(job.pk)
    assert (again["parent"], again["seed"], again["count"]) == (str(job.pk), 5, 2)
    assert [(one["slug"], one["weight"]) for one in again["loras"]] == [
        (loras[1].slug, 0.5),
        (loras[0].slug, -0.25),
    ]


def test_a_job_whose_lora_is_gone_is_not_asked_for_again(alice: User) -> None:
    loras = library.add_demo_loras()
    job = submit(alice, loras=[(loras[0], 1.0)])
    Lora.objects.all().delete()
    response = client_of(alice).post(reverse("api:job-retry", args=[job.pk]))
    assert response.status_code == 400
    assert reason(response, "loras") == f"{loras[0].name} is no longer in the library."


def retry(client: APIClient, job: Job, **headers: str) -> Any:
    return client.post(reverse("api:job-retry", args=[job.pk]), headers=headers)


def test_what_is_allowed_no_more_is_not_asked_for_again(alice: User) -> None:
    lora = library.add_demo_loras()[0]
    large, refused, hidden = (
        submit(alice, width=1024),
        submit(alice, loras=[(lora, 1.0)], engine="fp4"),
        submit(alice, loras=[(lora, 1.0)]),
    )
    Admission.objects.create(lora=lora, engine="fp4", state="refused", reason="12 layers are missing.")
    client = client_of(alice)
    assert "1024 does not fit" in reason(retry(client, large), "width")
    assert "does not work on FP4" in reason(retry(client, refused), "loras")
    Lora.objects.update(hidden=True)
    assert "that you may use" in reason(retry(client, hidden), "loras")
    assert Job.objects.count() == 3


def test_a_key_makes_one_retry_of_one_job(alice: User) -> None:
    job, other, client = submit(alice), submit(alice), client_of(alice)
    key = {"Idempotency-Key": "again"}
    first, second = retry(client, job, **key), retry(client, job, **key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    assert second["Idempotent-Replayed"] == "true"
    assert retry(client, other, **key).status_code == 422
    assert retry(client, job).json()["id"] != first.json()["id"]


def test_another_persons_job_is_not_asked_for_again(alice: User, charlie: User) -> None:
    job = submit(alice)
    assert client_of(charlie).post(reverse("api:job-retry", args=[job.pk])).status_code == 404
    assert Job.objects.count() == 1
