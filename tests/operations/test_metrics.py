"""The figures for Prometheus, and who may read them."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from accounts.models import UsageEntry, User
from generation.models import Job
from gpu.models import Worker
from operations import metrics
from tests.conftest import submit

TOKEN = "a-token-of-the-tests"
ENTRY = {"engine": "bf16", "attempt": 1, "worker": "w", "outcome": "succeeded"}


def figures() -> dict[tuple[str, ...], float]:
    """Name and values of the labels, in the order of the labels' names, to the figure."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


@pytest.fixture
def worker(db: None) -> Worker:
    facts = {"memory_total": 24, "memory_free": 10, "memory_model": 12, "loras": ["a", "b"]}
    return Worker.start("atelier-01", "GPU-7", "bf16", 1, **facts)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"]
)
def test_it_is_closed(client: Client, alice: User, settings: Any, header: str) -> None:
    for token in ("", TOKEN):
        settings.FLUXSITE_METRICS_TOKEN = token
        answer = client.get("/metrics", headers={"Authorization": header})
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
        assert b"fluxsite_" not in answer.content
    client.force_login(alice)
    assert client.get("/metrics").status_code == 401


def test_a_token_or_staff_opens_it(client: Client, alice: User, settings: Any) -> None:
    settings.FLUXSITE_METRICS_TOKEN = TOKEN
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    alice.is_staff = True
    alice.save()
    client.force_login(alice)
    assert client.get("/metrics").status_code == 200
    assert client.post("/metrics").status_code == 405


def test_the_queue_is_counted(alice: User, worker: Worker) -> None:
    for _ in range(3):
        submit(alice)
    Job.objects.claim("bf16", worker)
    Job.objects.update(created_at=timezone.now() - timedelta(seconds=90))
    found = figures()
    assert found["fluxsite_jobs_waiting", "bf16"] == 2
    assert found["fluxsite_jobs_running", "bf16"] == 1
    assert 90 <= found["fluxsite_queue_age_seconds", "bf16"] < 120
    assert found["fluxsite_jobs_waiting", "fp4"] == found["fluxsite_queue_age_seconds", "fp4"] == 0


def test_what_jobs_took_and_why_they_failed(alice: User, worker: Worker) -> None:
    sent = timezone.now() - timedelta(minutes=1)
    for seconds in (1.0, 3.0):
        Job.objects.filter(pk=submit(alice).pk).update(
            state="succeeded", draw_seconds=seconds, created_at=sent, started_at=sent + timedelta(seconds=8)
        )
    Job.objects.filter(pk=submit(alice).pk).update(
        state="failed", error_code="out_of_memory", finished_at=timezone.now()
    )
    Job.objects.filter(pk=submit(alice).pk).update(
        state="failed", error_code="internal", finished_at=timezone.now() - timedelta(hours=2)
    )
    found = figures()
    assert found["fluxsite_stage_seconds", "bf16", "drawing"] == 2.0
    assert found["fluxsite_stage_seconds", "bf16", "waiting"] == 8
    assert ("fluxsite_stage_seconds", "bf16", "loading") not in found
    assert found["fluxsite_failures_last_hour", "out_of_memory", "bf16"] == 1
    assert ("fluxsite_failures_last_hour", "internal", "bf16") not in found


def enter(alice: User, age: timedelta = timedelta(0), **facts: Any) -> None:
    entry = {**ENTRY, "images": 2, "gpu_seconds": 1.5, **facts}
    UsageEntry.objects.create(user=alice, job=uuid4(), created_at=timezone.now() - age, **entry)


def test_counters_are_sums_over_the_ledger_and_old_entries_are_read_once(
    alice: User, django_assert_num_queries: Any
) -> None:
    ledger = metrics.Ledger()
    assert ledger.sums() == {}
    for _ in range(2):
        enter(alice, timedelta(hours=1))
    enter(alice, outcome="failed", images=0)
    expected = {("bf16", "succeeded"): [2, 4, 3.0], ("bf16", "failed"): [1, 0, 1.5]}
    assert ledger.sums() == expected
    assert ledger.settled[1] == {("bf16", "succeeded"): [2, 4, 3.0]}
    assert ledger.sums() == expected
    enter(alice)
    assert ledger.sums()["bf16", "succeeded"] == [3, 6, 4.5]
    UsageEntry.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert ledger.sums() == {("bf16", "succeeded"): [3, 6, 4.5], ("bf16", "failed"): [1, 0, 1.5]}
    assert ledger.settled[1] == ledger.sums()
    with django_assert_num_queries(2):
        ledger.sums()


def test_workers_and_their_memory(worker: Worker) -> None:
    found = figures()
    slot = ("GPU-7", "bf16", "atelier-01")
    assert found["fluxsite_worker_up", *slot, "run", "idle"] == 1
    assert found["fluxsite_worker_adapters", *slot] == 2
    assert found["fluxsite_worker_memory_bytes", *slot, "free"] == 10
    assert found["fluxsite_worker_memory_bytes", *slot, "model"] == 12
    Worker.objects.update(heartbeat=timezone.now() - timedelta(minutes=5))
    found = figures()
    assert found["fluxsite_worker_up", *slot, "run", "silent"] == 0
    assert found["fluxsite_worker_heartbeat_age_seconds", *slot] > 299
    assert found["fluxsite_check_ok", "workers"] == 0


READINGS = (
    "fluxsite_worker_utilisation_ratio", "fluxsite_worker_temperature_celsius",
    "fluxsite_worker_memory_bytes", "fluxsite_worker_adapters",
)  # fmt: skip


def told(host: str) -> dict[str, float]:
    """What is told of the device of the slot on ``host``."""
    return {
        name: figure for (name, *labels), figure in figures().items() if name in READINGS and host in labels
    }


def test_each_host_tells_how_busy_and_how_warm_its_gpu_is(worker: Worker) -> None:
    worker.now(utilisation=0.73, celsius=61)
    Worker.start("atelier-02", "GPU-8", "fp4", 1, utilisation=0.0)
    assert told("atelier-01").items() >= {READINGS[0]: 0.73, READINGS[1]: 61}.items()
    assert told("atelier-02")[READINGS[0]] == 0
    assert READINGS[1] not in told("atelier-02")


@pytest.mark.parametrize("gone", [{"state": "stopped"}, {"heartbeat": timezone.now() - timedelta(minutes=5)}])
def test_who_is_gone_tells_no_old_reading(worker: Worker, gone: dict[str, Any]) -> None:
    worker.now(utilisation=0.73, celsius=61)
    assert set(told("atelier-01")) == set(READINGS)
    Worker.objects.update(**gone)
    assert told("atelier-01") == {}


def test_requests_are_counted_by_view_not_by_address(client: Client, db: None) -> None:
    client.get("/login/")
    before = figures()
    for path in ("/login/", f"/jobs/{uuid4()}/", f"/jobs/{uuid4()}/", "/nowhere/"):
        client.get(path)
    client.generic("BREW", "/login/")
    grown = {key: value - before.get(key, 0) for key, value in figures().items()}
    assert grown["fluxsite_http_requests_total", "GET", "200", "accounts:login"] == 1
    assert grown["fluxsite_http_requests_total", "GET", "302", "generation:job"] == 2
    assert grown["fluxsite_http_requests_total", "GET", "404", ""] == 1
    assert grown["fluxsite_http_requests_total", "other", "405", "accounts:login"] == 1
    assert grown["fluxsite_http_request_seconds_count", "accounts:login"] == 2


COUNTS = """
import django; django.setup()
from django.test import RequestFactory
from django.http import HttpResponse
from operations import metrics
for _ in range({times}):
    metrics.count_request(RequestFactory().get("/"), HttpResponse(), 0.1)
"""
READS = (
    "import django; django.setup()\nfrom operations import metrics\nmetrics._studio.collect = lambda: []\n"
    + ("print(metrics.text().decode())")
)


def test_several_web_processes_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for code in (COUNTS.format(times=2), COUNTS.format(times=3)):
        subprocess.run([sys.executable, "-c", code], check=True)
    said = subprocess.run([sys.executable, "-c", READS], check=True, capture_output=True, text=True).stdout
    assert 'fluxsite_http_requests_total{method="GET",status="200",view=""} 5.0' in said
