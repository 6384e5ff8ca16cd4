"""What /readyz says, and to whom."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from accounts.models import User
from generation import operations
from generation.models import Job
from gpu.models import Mode, Pool, Worker
from operations import health
from operations.health import Finding
from operations.models import Cleanup
from tests.conftest import submit

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.start("atelier-01", "cpu", "bf16", 1)


@pytest.fixture(autouse=True)
def folder(media: Path) -> None:
    media.mkdir()


def found(name: str) -> Finding:
    return next(finding for finding in health.findings() if finding.name == name)


def away(*args: object) -> None:
    raise OperationalError("server closed the connection unexpectedly")


def test_all_is_well_with_a_worker(worker: Worker, client: Client) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert list(answer.json()["checks"]) == ["database", "disk", "studio", "workers", "queue", "cleanup"]


def test_a_studio_that_others_should_not_be_sent_to_answers_503(worker: Worker, client: Client) -> None:
    with connection.execute_wrapper(away):
        answer = client.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()["status"]) == (503, "fails")
    assert answer.json()["checks"]["database"] == {"ok": False, "matters": True}
    assert answer.json()["checks"]["disk"]["ok"]
    assert answer["Cache-Control"].startswith("max-age=0, no-cache, no-store")


def test_a_full_disk_matters(worker: Worker, client: Client, settings: Any) -> None:
    settings.FLUXSITE_DISK_FLOOR_MB = 10**9
    assert client.get("/readyz").status_code == 503
    assert "manage.py cleanup" in found("disk").remedy
    settings.MEDIA_ROOT = settings.MEDIA_ROOT / "gone"
    assert "0.0 GB are free" in found("disk").detail


def test_why_is_told_to_those_who_may_watch(client: Client, alice: User, settings: Any) -> None:
    """Host names and settings are nobody else's business."""
    settings.FLUXSITE_METRICS_TOKEN = TOKEN
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert client.get("/readyz", headers=headers).json()["checks"]["workers"] == {
            "ok": False, "matters": False,
        }  # fmt: skip
    answer = client.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert answer["status"] == "degraded"
    assert answer["checks"]["workers"]["detail"] == "No worker is there: jobs wait."
    assert "manage.py workers" in answer["checks"]["workers"]["remedy"]
    alice.is_staff = True
    alice.save()
    client.force_login(alice)
    assert "detail" in client.get("/readyz").json()["checks"]["workers"]


def test_a_worker_that_fell_silent_is_named(worker: Worker) -> None:
    Worker.objects.update(heartbeat=timezone.now() - timedelta(minutes=5))
    assert "atelier-01/cpu/bf16 for 5 min" in found("workers").detail
    Worker.start("atelier-02", "cpu", "bf16", 2)
    assert not found("workers").ok


def test_one_that_was_stopped_is_not_missed(worker: Worker) -> None:
    Worker.start("atelier-02", "cpu", "fp4", 2).now(Worker.State.STOPPED)
    assert found("workers").ok


def test_one_that_waits_says_for_what(worker: Worker) -> None:
    worker.now(Worker.State.WAITING, note="Waits for memory.")
    assert "atelier-01/cpu/bf16: Waits for memory." in found("workers").detail


def test_a_job_that_waits_long_is_told_unless_its_engine_is_paused(alice: User, worker: Worker) -> None:
    submit(alice)
    assert found("queue").ok
    Job.objects.update(created_at=timezone.now() - timedelta(hours=2))
    assert found("queue").detail == "Jobs wait: bf16 for 2 h 0 min."
    operations.set_mode(Pool.of("bf16"), Mode.PAUSE)
    assert found("queue").ok


@pytest.mark.parametrize(
    ("days", "error", "ok"),
    [(0, "", True), (1, "", True), (3, "", False), (0, "trash: Permission denied", False)],
)
def test_a_cleanup_that_is_late_or_failed_is_told(worker: Worker, days: int, error: str, ok: bool) -> None:
    Cleanup.objects.create(finished_at=timezone.now() - timedelta(days=days), error=error)
    Cleanup.objects.create()  # one that was killed says nothing
    cleanup = found("cleanup")
    assert cleanup.ok == ok
    assert error in cleanup.detail


def test_a_cleanup_that_failed_on_one_host_is_told_until_that_host_cleans(worker: Worker) -> None:
    now = timezone.now()
    Cleanup.objects.create(host="atelier-01", finished_at=now, error="trash: Permission denied")
    Cleanup.objects.create(host="atelier-02", finished_at=now)
    assert found("cleanup").detail == "Not all could be deleted: trash: Permission denied (on atelier-01)"
    Cleanup.objects.create(host="atelier-01", finished_at=now)
    assert found("cleanup").ok


def test_a_cleanup_that_never_came_is_told_after_two_days(worker: Worker) -> None:
    assert found("cleanup").ok
    MigrationRecorder.Migration.objects.filter(app="operations").update(
        applied=timezone.now() - timedelta(days=3)
    )
    assert not found("cleanup").ok


def test_a_database_that_goes_away_in_the_middle_is_told(worker: Worker) -> None:
    asked: list[str] = []

    def after_one(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest) if len(asked) == 1 else away()

    with connection.execute_wrapper(after_one):
        cut = found("workers")
    assert cut.detail == "The database did not answer: server closed the connection unexpectedly"
