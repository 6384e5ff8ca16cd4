"""When django-q2's pusher is given a wake-up, and when it is not."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from accounts.models import User
from generation import broker, operations
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


def test_housekeeping_is_given_one_task_at_a_time(
    db: None, worker: WatchedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "RETURN_SECONDS", 0.01)
    chores = HousekeepingBroker("fluxsite")
    for name in ("one", "two"):
        chores.enqueue(SignedPackage.dumps({"id": name}))
    assert OrmQ.objects.count() == 2
    assert len(chores.dequeue() or []) == 1
    assert chores.dequeue() is None
    worker.busy()
    assert chores.dequeue() is None
    worker.ready()
    assert len(chores.dequeue() or []) == 1
