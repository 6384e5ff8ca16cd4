"""Engines, workers and the account by API."""

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import ApiToken, Quota, User
from gpu.models import Mode, Pool, Worker
from tests.conftest import client_of, submit

ADMIN_SCOPES = ["generate", "read", "admin"]


def admin_client(user: User, *scopes: str) -> APIClient:
    client = APIClient()
    token = ApiToken.issue(user, "test", scopes or ADMIN_SCOPES, timedelta(days=1))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def admin(db: None) -> User:
    return User.objects.create_superuser("root", password=None)


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.start("gpu-1", "cpu", "bf16", 7, device_name="a processor")


def test_engines_say_how_long_a_job_would_wait(alice: User, worker: Worker) -> None:
    submit(alice)
    fp4, bf16 = client_of(alice).get("/api/v1/engines/").json()
    assert (fp4["name"], fp4["state"], fp4["queued"]) == ("fp4", "off", 0)
    assert (bf16["name"], bf16["state"], bf16["queued"], bf16["queue_limit"]) == ("bf16", "loads", 1, 1000)
    assert client_of(alice).get("/api/v1/engines/bf16/").json() == bf16
    assert client_of(alice).get("/api/v1/engines/fp16/").status_code == 404


def test_workers_say_what_they_do(alice: User, worker: Worker) -> None:
    (seen,) = client_of(alice).get("/api/v1/workers/").json()["results"]
    assert (seen["host"], seen["device_name"], seen["state"]) == ("gpu-1", "a processor", "idle")
    assert (seen["utilisation"], seen["celsius"]) == (None, None)
    assert client_of(alice).get(f"/api/v1/workers/{worker.pk}/").json() == seen
    worker.now(utilisation=0.73, celsius=61)
    (seen,) = client_of(alice).get("/api/v1/workers/").json()["results"]
    assert (seen["utilisation"], seen["celsius"]) == (0.73, 61)


def mode(client: APIClient, path: str, wanted: Any = "pause") -> Any:
    return client.post(f"/api/v1/{path}/mode/", {"mode": wanted}, format="json")


def test_administrators_pause_and_resume(admin: User, worker: Worker) -> None:
    client = admin_client(admin)
    for path, model in (("engines/bf16", Pool), (f"workers/{worker.pk}", Worker)):
        assert mode(client, path).json()["mode"] == "pause"
        assert model.objects.get().note == "Paused by root"
        assert mode(client, path, "run").json()["mode"] == "run"
    assert mode(client, "engines/bf16", "explode").status_code == 400


def test_others_do_not(alice: User, admin: User, worker: Worker) -> None:
    staff = User.objects.create_user("staff", is_staff=True)  # who was given nothing
    clients = [client_of(alice), admin_client(alice), admin_client(admin, "generate"), admin_client(staff)]
    for client in clients:
        for path in ("engines/bf16", f"workers/{worker.pk}"):
            assert mode(client, path).status_code == 403
    assert Worker.objects.get().mode == Mode.RUN


def test_me_says_what_is_used_and_which_tokens_there_are(alice: User, bob: User) -> None:
    Quota.objects.create(user=alice, images_a_day=5)
    client_of(bob)
    submit(alice, count=2)
    secret = ApiToken.issue(alice, "laptop", ["generate", "read"], timedelta(days=1))
    me = APIClient(headers={"Authorization": f"Bearer {secret}"}).get("/api/v1/me/").json()
    assert me["username"] == "alice"
    assert {"name": "images_a_day", "reserved": 2.0, "limit": 5}.items() <= me["usage"][0].items()
    (token,) = me["tokens"]
    assert (token["name"], token["scopes"]) == ("laptop", ["generate", "read"])
    assert token["prefix"].startswith("fx_")
    assert secret not in str(me)
