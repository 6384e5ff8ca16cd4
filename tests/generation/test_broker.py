"""When django-q2's pusher is given a wake-up, and when it is not."""

import inspect
import os
import pydoc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models.functions import Now
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule
from django_q.signing import SignedPackage

from accounts.models import User
from generation import broker, housekeeping, operations
from generation.broker import HousekeepingBroker, JobBroker
from generation.queue import JobQuerySet
from generation.watch import WatchedWorker
from gpu.models import Mode, Pool, Worker
from tests.conftest import submit


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> WatchedWorker:
    """The worker that the brokers watch: it has just started."""
    worker = WatchedWorker()
    worker.started()
    monkeypatch.setattr(broker, "worker", worker)
    return worker


@pytest.fixture
def jobs(db: None, worker: WatchedWorker) -> Iterator[JobBroker]:
    jobs = JobBroker("bf16")
    Worker.start(*jobs.slot, pid=1)
    yield jobs
    jobs.wake_ups.close()


def test_an_idle_worker_is_woken_once_for_a_waiting_job(
    alice: User, jobs: JobBroker, worker: WatchedWorker
) -> None:
    assert jobs.dequeue() is None
    submit(alice)
    jobs.checked_at = 0
    (wake_up,) = jobs.dequeue() or []
    task = SignedPackage.loads(wake_up[1])
    assert (task["func"], task["args"]) == ("generation.runner.run_jobs", ("bf16",))
    assert jobs.dequeue() is None
    worker.busy()
    assert jobs.dequeue() is None


def test_after_a_job_the_worker_is_woken_without_a_look(
    jobs: JobBroker, worker: WatchedWorker, django_assert_num_queries: Any
) -> None:
    worker.ready(more=True)
    with django_assert_num_queries(0):
        assert jobs.dequeue()
    worker.ready()
    assert jobs.dequeue() is None


def test_jobs_of_the_other_engine_wake_nobody(alice: User, jobs: JobBroker) -> None:
    submit(alice, engine="fp4")
    assert jobs.dequeue() is None


def test_a_paused_engine_wakes_nobody(alice: User, jobs: JobBroker) -> None:
    submit(alice)
    operations.set_mode(Pool.of("bf16"), Mode.PAUSE)
    assert jobs.dequeue() is None


def test_a_drained_worker_is_woken_to_give_its_memory_back(jobs: JobBroker, worker: WatchedWorker) -> None:
    operations.set_mode(Pool.of("bf16"), Mode.DRAIN)
    assert jobs.dequeue() is None
    worker.holds_model(True)
    jobs.checked_at = 0
    assert jobs.dequeue()


def test_a_database_that_is_away_stops_no_pusher(
    alice: User, jobs: JobBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(alice)

    def away(*args: Any) -> bool:
        raise OperationalError

    with monkeypatch.context() as patched:
        patched.setattr(broker.connection, "close", lambda: None)  # type: ignore[attr-defined]
        patched.setattr(broker, "RECHECK_SECONDS", 0.01)
        patched.setattr(JobQuerySet, "work_for", away)
        assert jobs.dequeue() is None
    jobs.checked_at = 0
    assert jobs.dequeue()


@pytest.fixture
def chores(db: None, worker: WatchedWorker, monkeypatch: pytest.MonkeyPatch) -> HousekeepingBroker:
    """The broker of a housekeeping cluster, when no chore is due."""
    monkeypatch.setattr(broker, "RETURN_SECONDS", 0.01)
    monkeypatch.setattr(broker, "RECHECK_SECONDS", 0.01)
    Schedule.objects.update(next_run=Now() + timedelta(hours=1))
    return HousekeepingBroker("fluxsite")


def make_due(*functions: str) -> None:
    Schedule.objects.filter(func__in=functions).update(next_run=Now() - timedelta(seconds=1))


def test_housekeeping_is_given_one_chore_at_a_time(chores: HousekeepingBroker, worker: WatchedWorker) -> None:
    assert chores.dequeue() is None
    make_due("generation.housekeeping.sweep", "operations.chores.rotate_logs")
    (first,) = chores.dequeue() or []
    assert chores.dequeue() is None
    worker.busy()
    assert chores.dequeue() is None
    worker.ready()
    (second,) = chores.dequeue() or []
    worker.ready()
    assert chores.dequeue() is None
    ran = {SignedPackage.loads(payload)["func"] for _, payload in (first, second)}
    assert ran == {"generation.housekeeping.sweep", "operations.chores.rotate_logs"}


def test_each_chore_that_is_allowed_exists_and_needs_no_arguments(db: None) -> None:
    functions = {name: pydoc.locate(name) for name in housekeeping._allowed}
    assert set(functions) == set(Schedule.objects.values_list("func", flat=True))
    for function in functions.values():
        assert callable(function)
        inspect.signature(function).bind()


def test_rows_of_the_database_run_no_code(
    chores: HousekeepingBroker, tmp_path: Path, worker: WatchedWorker
) -> None:
    """Whoever writes to the database, and has the secret key, names no function and sends no pickle."""

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/unpickled",)

    past = timezone.now() - timedelta(hours=1)
    minutes = {"schedule_type": Schedule.MINUTES, "minutes": 1, "next_run": past}
    for options in ("{}", "{'q_options': {'sync': True}}"):
        row = {"func": "os.system", "args": f"'touch {tmp_path}/scheduled'", "kwargs": options, **minutes}
        Schedule.objects.create(**row)
    # The name of a chore, and arguments and a hook that are not the chore's.
    Schedule.objects.filter(name="sweep").update(args="'x'", kwargs="{'y': 1}", hook="os.system", **minutes)
    task = {"id": "1", "name": "1", "func": Hostile(), "args": (), "kwargs": {}, "started": past}
    OrmQ.objects.create(key="fluxsite", payload=SignedPackage.dumps(task), lock=past)
    assert not Conf.SCHEDULER
    (given,) = chores.dequeue() or []
    worker.ready()
    assert chores.dequeue() is None
    packed = SignedPackage.loads(given[1])
    assert (packed["func"], packed["args"], packed["kwargs"], packed.get("hook")) == (
        "generation.housekeeping.sweep", (), {}, None,
    )  # fmt: skip
    assert not list(tmp_path.iterdir())
