"""Creating once, waiting, and asking after many jobs at a time."""

import threading
from typing import Any

import pytest
from django.db import connections
from rest_framework.test import APIClient

from accounts.models import Quota, User
from generation import waiting
from generation.models import Job
from tests.conftest import asked, client_of, submit
from tests.generation.drawn import finished

JOBS = "/api/v1/jobs/"


def create(client: APIClient, key: str | None = None, **changes: Any) -> Any:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return client.post(JOBS, asked(**changes), format="json", headers=headers)


def test_the_same_key_answers_the_first_job(alice: User) -> None:
    client = client_of(alice)
    first, again = create(client, "order-7"), create(client, "order-7")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert again["Location"] == first["Location"]
    assert Job.objects.count() == 1


def test_a_repeat_finds_its_job_where_the_request_would_be_refused_by_now(alice: User) -> None:
    client = client_of(alice)
    first = create(client, "last", count=2).json()
    Quota.objects.create(user=alice, images_a_day=2)
    assert create(client, "last", count=2).json()["id"] == first["id"]
    assert create(client, "another").status_code == 429


def test_a_key_with_another_body_is_refused(alice: User) -> None:
    client = client_of(alice)
    create(client, "order-7")
    response = create(client, "order-7", seed=8)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["code"] == "idempotency_key_reused"
    assert "sent before with another body" in error["detail"]


def test_a_key_is_each_users_own(alice: User, bob: User) -> None:
    assert create(client_of(alice), "1").json()["id"] != create(client_of(bob), "1").json()["id"]


@pytest.mark.parametrize("key", ["", "a" * 201, "tab\there", "ä"])
def test_a_key_must_be_visible_ascii(alice: User, key: str) -> None:
    response = create(client_of(alice), key)
    assert response.status_code == 400
    assert "Use 1 to 200 visible ASCII characters." in response.json()["errors"][0]["detail"]


def test_a_refused_request_leaves_its_key_free(alice: User) -> None:
    client = client_of(alice)
    assert create(client, "k", width=100).status_code == 400
    assert create(client, "k", width=128).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_of_many_equal_requests_at_once_one_makes_the_job(transactional_db: None, alice: User) -> None:
    clients = [client_of(alice) for _ in range(6)]
    answers: list[Any] = []

    def send(client: APIClient) -> None:
        answers.append(create(client, "same").json()["id"])
        connections.close_all()

    threads = [threading.Thread(target=send, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert set(answers) == {str(Job.objects.get().pk)}


def wait(alice: User, prefer: str) -> Any:
    return client_of(alice).post(JOBS, asked(), format="json", headers={"Prefer": prefer})


def test_waiting_ends_when_the_time_is_over(alice: User, settings: Any) -> None:
    settings.FLUXSITE_WAIT_SECONDS = 0.1
    response = wait(alice, "respond-async, wait=60")
    assert (response.status_code, response.json()["state"]) == (201, "queued")
    assert response["Preference-Applied"] == "wait=0.1"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=soon", "return=minimal", ""])
def test_who_does_not_wait_is_answered_at_once(alice: User, prefer: str) -> None:
    assert "Preference-Applied" not in wait(alice, prefer)


def test_where_too_many_wait_the_answer_comes_at_once(alice: User, settings: Any) -> None:
    settings.FLUXSITE_WAITING_REQUESTS = 1
    with waiting.Place(alice):
        response = wait(alice, "wait=60")
    assert response.status_code == 201
    assert "Preference-Applied" not in response


def test_the_status_of_many_jobs_is_one_answer_that_is_sent_once(alice: User, bob: User) -> None:
    client, waits, done = client_of(alice), submit(alice), finished(alice)
    address = f"{JOBS}status/?ids={waits.pk},{done.pk},{submit(bob).pk}"
    response = client.get(address)
    states = {job["id"]: (job["state"], job["position"]) for job in response.json()["jobs"]}
    assert states == {str(waits.pk): ("queued", 1), str(done.pk): ("succeeded", None)}
    again = client.get(address, headers={"If-None-Match": response["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", response["ETag"])
    Job.objects.filter(pk=waits.pk).update(state="failed", error_code="lora", error="Why.")
    changed = client.get(address, headers={"If-None-Match": response["ETag"]})
    assert changed.status_code == 200
    assert {"code": "lora", "message": "Why."} in [job["error"] for job in changed.json()["jobs"]]


@pytest.mark.parametrize(
    "ids", ["", "1", "nonsense", ",".join(["01937f6e-8f0a-7c3e-9d52-0a4b6f1c2d3e"] * 101)]
)
def test_ids_that_are_none_or_too_many_are_refused(alice: User, ids: str) -> None:
    response = client_of(alice).get(f"{JOBS}status/?ids={ids}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["attr"] == "ids"
