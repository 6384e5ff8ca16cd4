"""The job table as a queue: who gets a job, who keeps it, and who comes too late."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from accounts.models import User
from generation.models import Job
from gpu.models import Worker
from tests.conftest import submit


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.start("atelier-01", "cpu", "bf16", 101)


@pytest.fixture
def other_worker(db: None) -> Worker:
    return Worker.start("atelier-02", "cpu", "bf16", 202)


def let_the_lease_run_out(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))


def claim(worker: Worker) -> Job:
    job = Job.objects.claim("bf16", worker)
    assert job is not None
    return job


def test_it_gives_out_the_oldest_job_first(alice: User, bob: User, worker: Worker) -> None:
    first, second = submit(alice), submit(bob)
    assert [claim(worker).pk, claim(worker).pk] == [first.pk, second.pk]
    assert Job.objects.claim("bf16", worker) is None


def test_a_claim_records_worker_attempt_and_lease(alice: User, worker: Worker) -> None:
    submit(alice)
    job = claim(worker)
    assert (job.state, job.attempt, job.worker) == ("running", 1, worker)
    assert job.lease_until is not None
    assert job.started_at is not None


def test_it_gives_a_worker_jobs_of_its_engine_only(alice: User, worker: Worker) -> None:
    submit(alice, engine="fp4")
    assert Job.objects.claim("bf16", worker) is None


def test_a_job_in_hand_is_not_given_out_again(alice: User, worker: Worker, other_worker: Worker) -> None:
    submit(alice)
    claim(worker)
    assert Job.objects.claim("bf16", other_worker) is None


def test_a_job_whose_worker_fell_silent_goes_to_another(
    alice: User, worker: Worker, other_worker: Worker
) -> None:
    submit(alice)
    lost = claim(worker)
    let_the_lease_run_out(lost)
    again = claim(other_worker)
    assert (again.pk, again.attempt, again.worker) == (lost.pk, 2, other_worker)


def test_a_renewed_lease_keeps_the_job(alice: User, worker: Worker, other_worker: Worker) -> None:
    submit(alice)
    job = claim(worker)
    let_the_lease_run_out(job)
    assert Job.objects.keep(job.pk, job.attempt)
    assert Job.objects.claim("bf16", other_worker) is None


def test_a_late_worker_changes_nothing(alice: User, worker: Worker, other_worker: Worker) -> None:
    submit(alice)
    late = claim(worker)
    let_the_lease_run_out(late)
    claim(other_worker)
    assert not Job.objects.renew(late.pk, late.attempt, step=3)
    assert not Job.objects.keep(late.pk, late.attempt)
    assert not Job.objects.finish(late.pk, late.attempt, "failed", error="too late")
    job = Job.objects.get(pk=late.pk)
    assert (job.state, job.step, job.error) == ("running", 0, "")


def test_a_job_ends_once(alice: User, worker: Worker) -> None:
    submit(alice)
    job = claim(worker)
    assert Job.objects.finish(job.pk, job.attempt, "succeeded")
    assert not Job.objects.finish(job.pk, job.attempt, "failed")
    assert not job.cancel()
    job.refresh_from_db()
    assert (job.state, job.lease_until) == ("succeeded", None)


def test_a_job_that_kills_its_workers_fails_after_three_attempts(alice: User, worker: Worker) -> None:
    submit(alice)
    for attempt in (1, 2, 3):
        job = claim(worker)
        assert job.attempt == attempt
        let_the_lease_run_out(job)
    assert Job.objects.claim("bf16", worker) is None
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "worker_died")
    assert "stopped 3 times" in job.error


def test_cancelling_a_waiting_job_ends_it_at_once(alice: User, worker: Worker) -> None:
    job = submit(alice)
    assert job.cancel()
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert job.finished_at is not None
    assert Job.objects.claim("bf16", worker) is None


def test_cancelling_a_running_job_is_seen_at_the_next_step(alice: User, worker: Worker) -> None:
    submit(alice)
    job = claim(worker)
    assert Job.objects.renew(job.pk, job.attempt, step=1)
    assert job.cancel()
    assert not Job.objects.renew(job.pk, job.attempt, step=2)


def test_the_heartbeat_goes_on_while_a_cancel_is_on_its_way(alice: User, worker: Worker) -> None:
    submit(alice)
    job = claim(worker)
    job.cancel()
    assert Job.objects.keep(job.pk, job.attempt)
    assert Job.objects.finish(job.pk, job.attempt, "cancelled")


def test_a_higher_priority_goes_first_then_the_older(alice: User, worker: Worker) -> None:
    first, second, urgent = submit(alice), submit(alice), submit(alice)
    Job.objects.filter(pk=urgent.pk).update(priority=1)
    order = [Job.objects.claim("bf16", worker) for _ in range(3)]
    assert [job.pk if job else None for job in order] == [urgent.pk, first.pk, second.pk]
