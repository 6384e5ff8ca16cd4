"""The job table as a queue: who gets a job, who keeps it, and who comes too late."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event
from typing import Any
from uuid import uuid4

import pytest
from django.db import InternalError, connection, transaction
from django.db.models.functions import Now

from accounts.models import UsageEntry, User
from generation import operations, queue
from generation.models import Job, lora_set
from generation.queue import JobQuerySet
from gpu.models import Mode, Pool, Worker
from loras.models import Lora
from tests.conftest import ON_POSTGRESQL, asked, submit
from tests.generation.drawn import draw

THREADS = 8


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
    job.refresh_from_db()
    assert (job.state, job.attempt, job.worker) == ("running", 1, worker)
    assert job.lease_until is not None
    assert job.started_at is not None


@pytest.mark.django_db(transaction=True)
def test_workers_that_claim_at_once_do_not_look_at_the_same_job(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks once; of those who took the first row all but one would have to look again."""
    jobs = {submit(alice).pk for _ in range(THREADS)}
    workers = [Worker.start(f"atelier-{number}", "cpu", "bf16", number) for number in range(THREADS)]
    together, looks, next_for = Barrier(THREADS), [], JobQuerySet.next_for

    def counted(*args: Any) -> Job | None:
        looks.append(1)
        return next_for(*args)

    def claims(worker: Worker) -> Any:
        try:
            together.wait()
            return claim(worker).pk
        finally:
            connection.close()

    monkeypatch.setattr(JobQuerySet, "next_for", counted)
    with ThreadPoolExecutor(THREADS) as threads:
        assert set(threads.map(claims, workers)) == jobs
    assert len(looks) == THREADS


@pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite has one host")
@pytest.mark.django_db(transaction=True)
def test_a_host_that_is_silent_in_the_middle_of_a_claim_does_not_stop_the_others(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "TURN_SECONDS", 1)
    submit(alice)
    silent, over = Event(), Event()

    @transaction.atomic
    def begin_to_claim() -> None:
        Job.objects.all()._wait_for_turn("bf16")
        silent.set()
        over.wait(60)
        Job.objects.count()

    def fall_silent() -> None:
        try:
            with pytest.raises(InternalError, match="idle-in-transaction"):
                begin_to_claim()
        finally:
            connection.close()

    worker = Worker.start("atelier-01", "cpu", "bf16", 101)
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(fall_silent)
        silent.wait(60)
        assert claim(worker)
        over.set()
        other.result()


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
    assert not Job.objects.finish(late, "failed", error="too late")
    job = Job.objects.get(pk=late.pk)
    assert (job.state, job.step, job.error) == ("running", 0, "")


def test_a_job_ends_once(alice: User, worker: Worker) -> None:
    submit(alice)
    job = claim(worker)
    assert Job.objects.finish(job, "succeeded")
    assert not Job.objects.finish(job, "failed")
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


def test_a_worker_that_dies_while_it_loads_costs_the_job_no_attempt(alice: User, worker: Worker) -> None:
    submit(alice)
    for attempt, stage in enumerate(["loading"] * 4 + ["drawing", "loading", "drawing"], start=1):
        job = Job.objects.claim("bf16", worker, stage=stage)
        assert job
        assert job.attempt == attempt
        let_the_lease_run_out(job)
    last = Job.objects.claim("bf16", worker, stage="loading")
    assert last
    assert (last.attempt, last.deaths) == (8, 2)
    Job.objects.filter(pk=last.pk).update(stage="drawing")
    let_the_lease_run_out(last)
    assert Job.objects.end_abandoned("bf16") == 1
    last.refresh_from_db()
    assert (last.state, last.error_code, last.attempt, last.deaths) == ("failed", "worker_died", 8, 3)
    ledger = list(UsageEntry.objects.order_by("attempt").values_list("attempt", "outcome"))
    assert ledger == [(attempt, "lost") for attempt in range(1, 9)]


def test_nobody_is_charged_for_a_worker_that_died_while_it_loaded(alice: User, worker: Worker) -> None:
    submit(alice)
    for stage in ("loading", "drawing"):
        job = Job.objects.claim("bf16", worker, stage=stage)
        assert job
        Job.objects.update(
            started_at=Now() - timedelta(seconds=100), lease_until=Now() - timedelta(seconds=1)
        )
    claim(worker)
    seconds = UsageEntry.objects.order_by("attempt").values_list("gpu_seconds", flat=True)
    assert list(seconds) == pytest.approx([0, 39], abs=0.5)


# Accounts that are switched off -------------------------------------------------------------------------


def switch_off_in_the_admin(user: User) -> None:
    user.is_active = False
    user.save()


@pytest.mark.parametrize("switch_off", [User.objects.switch_off, switch_off_in_the_admin])
def test_switching_an_account_off_cancels_its_jobs(
    alice: User, bob: User, worker: Worker, switch_off: Any
) -> None:
    drawn, waits, bobs = submit(alice), submit(alice), submit(bob)
    assert claim(worker) == drawn
    switch_off(alice)
    waits.refresh_from_db()
    assert (waits.state, waits.error_code) == ("cancelled", "account_closed")
    assert waits.error.startswith("The account was switched off before this job was drawn. ")
    assert not Job.objects.goes_on(drawn.pk, 1)
    assert Job.objects.keep(drawn.pk, 1)
    assert claim(worker) == bobs
    User.objects.filter(pk=alice.pk).update(is_active=True)
    assert Job.objects.claim("bf16", worker) is None


def test_jobs_of_an_account_that_was_switched_off_unnoticed_are_not_drawn(
    alice: User, bob: User, worker: Worker
) -> None:
    lost, waits = submit(alice), submit(alice)
    assert claim(worker) == lost
    let_the_lease_run_out(lost)
    bobs, nobodys = submit(bob), Job.submit(None, **asked(priority=-10))
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert [claim(worker), claim(worker)] == [bobs, nobodys]
    assert Job.objects.claim("bf16", worker) is None
    assert [Job.objects.get(pk=job.pk).state for job in (lost, waits)] == ["cancelled"] * 2


@pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite has no such limit")
def test_a_claim_sets_no_limit_to_a_callers_transaction(alice: User, worker: Worker) -> None:
    submit(alice)
    claim(worker)
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("0",)


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
    assert Job.objects.finish(job, "cancelled")


def test_a_higher_priority_goes_first_then_the_older(alice: User, worker: Worker) -> None:
    first, second, urgent = submit(alice), submit(alice), submit(alice)
    Job.objects.filter(pk=urgent.pk).update(priority=1)
    order = [Job.objects.claim("bf16", worker) for _ in range(3)]
    assert [job.pk if job else None for job in order] == [urgent.pk, first.pk, second.pk]


# Order ----------------------------------------------------------------------------------------------


def used(user: User, seconds: float, minutes_ago: float = 0) -> None:
    """Enter GPU-seconds in the ledger."""
    entry = UsageEntry.objects.create(
        user=user, job=uuid4(), attempt=1, engine="bf16", gpu_seconds=seconds, images=1, outcome="succeeded"
    )
    UsageEntry.objects.filter(pk=entry.pk).update(created_at=Now() - timedelta(minutes=minutes_ago))


def with_loras(job: Job, lora_set: str, seconds_old: float = 0) -> Job:
    Job.objects.filter(pk=job.pk).update(lora_set=lora_set, created_at=Now() - timedelta(seconds=seconds_old))
    return job


def test_who_used_less_of_late_goes_first(alice: User, bob: User, worker: Worker) -> None:
    used(alice, 100)
    jobs = [submit(alice), submit(alice), submit(bob)]
    assert claim(worker).pk == jobs[2].pk
    assert claim(worker).pk == jobs[0].pk


def test_what_was_used_before_the_last_hour_is_forgotten(alice: User, bob: User, worker: Worker) -> None:
    used(alice, 100, minutes_ago=61)
    first = submit(alice)
    submit(bob)
    assert claim(worker).pk == first.pk


def test_a_running_job_counts_as_used(alice: User, bob: User, worker: Worker, other_worker: Worker) -> None:
    submit(alice)
    running = claim(worker)
    Job.objects.filter(pk=running.pk).update(started_at=Now() - timedelta(seconds=60))
    submit(alice)
    bobs = submit(bob)
    assert claim(other_worker).pk == bobs.pk


def test_a_small_difference_does_not_decide(alice: User, bob: User, worker: Worker) -> None:
    used(alice, 3)
    first = submit(alice)
    submit(bob)
    assert claim(worker).pk == first.pk


def test_priority_goes_before_fairness(alice: User, bob: User, worker: Worker) -> None:
    used(alice, 1000)
    submit(bob)
    urgent = submit(alice)
    Job.objects.filter(pk=urgent.pk).update(priority=1)
    assert claim(worker).pk == urgent.pk


@pytest.mark.parametrize(
    ("seconds_old", "warm", "first"),
    [
        (5, ["warm"], 1),  # passed by what is in memory
        (31, ["warm"], 0),  # but not for ever
        (5, [], 0),  # nobody else would be quicker
        (5, ["cold"], 0),
    ],
)
def test_a_job_whose_loras_must_be_loaded_may_be_passed_for_a_while(
    alice: User, worker: Worker, seconds_old: float, warm: list[str], first: int
) -> None:
    jobs = [with_loras(submit(alice), "cold", seconds_old), with_loras(submit(alice), "warm")]
    claimed = Job.objects.claim("bf16", worker, warm)
    assert claimed == jobs[first]


def test_a_job_without_loras_never_waits_for_them(alice: User, worker: Worker) -> None:
    plain = submit(alice)
    with_loras(submit(alice), "warm")
    assert Job.objects.claim("bf16", worker, ["warm"]) == plain


def test_nobodys_jobs_stand_in_line_with_those_of_users(alice: User, worker: Worker) -> None:
    trials = [Job.submit(None, **asked()) for _ in range(2)]
    alices = submit(alice)
    assert [claim(worker).pk for _ in range(3)] == [trials[0].pk, trials[1].pk, alices.pk]


def test_jobs_of_one_moment_are_given_out_one_after_the_other(alice: User, worker: Worker) -> None:
    jobs = [submit(alice), submit(alice)]
    Job.objects.update(created_at=Now())
    assert [claim(worker).pk for _ in range(2)] == [job.pk for job in jobs]


def test_a_job_that_another_worker_took_meanwhile_is_left_to_it(
    alice: User, worker: Worker, other_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submit(alice), submit(alice)
    seen = Job.objects.next_for("bf16", worker)
    assert claim(other_worker) == seen == first
    look = JobQuerySet.next_for
    answers = [seen]
    monkeypatch.setattr(JobQuerySet, "next_for", lambda *of: answers.pop() if answers else look(*of))
    assert claim(worker) == second


def test_whether_there_is_work_is_what_a_claim_finds(alice: User, worker: Worker) -> None:
    slot = (worker.host, worker.device, worker.engine)
    assert not Job.objects.work_for(*slot)
    submit(alice)
    assert Job.objects.work_for(*slot)
    job = claim(worker)
    assert not Job.objects.work_for(*slot)
    let_the_lease_run_out(job)
    assert Job.objects.work_for(*slot)
    operations.set_mode(worker, Mode.PAUSE)
    assert not Job.objects.work_for(*slot)


def test_what_was_begun_is_finished_first(alice: User, bob: User, worker: Worker) -> None:
    submit(alice)
    lost = claim(worker)
    urgent = submit(bob)
    Job.objects.filter(pk=urgent.pk).update(priority=5)
    let_the_lease_run_out(lost)
    assert claim(worker).pk == lost.pk


@pytest.mark.parametrize("mode", [Mode.PAUSE, Mode.DRAIN])
@pytest.mark.parametrize("what", ["worker", "engine"])
def test_a_paused_worker_or_engine_takes_no_job(alice: User, worker: Worker, mode: Mode, what: str) -> None:
    submit(alice)
    target = worker if what == "worker" else Pool.of("bf16")
    operations.set_mode(target, mode)
    assert Job.objects.claim("bf16", worker) is None
    operations.set_mode(target, Mode.RUN)
    assert Job.objects.claim("bf16", worker)


# Faults ---------------------------------------------------------------------------------------------


def test_a_cancelled_job_whose_worker_died_is_not_drawn_again(alice: User, worker: Worker) -> None:
    submit(alice)
    job = claim(worker)
    job.cancel()
    let_the_lease_run_out(job)
    assert Job.objects.claim("bf16", worker) is None
    job.refresh_from_db()
    assert job.state == "cancelled"


def test_a_lease_far_ahead_is_no_lease_after_the_clock_was_set_back(alice: User, worker: Worker) -> None:
    submit(alice)
    job = claim(worker)
    Job.objects.filter(pk=job.pk).update(lease_until=Now() + timedelta(hours=1))
    assert claim(worker).attempt == 2


def test_a_slots_next_process_frees_what_the_one_before_had(
    alice: User, worker: Worker, other_worker: Worker
) -> None:
    submit(alice)
    submit(alice)
    mine, others = claim(worker), claim(other_worker)
    assert Job.objects.release_all_of(worker) == 1
    assert list(Job.objects.abandoned("bf16")) == [mine]
    assert Job.objects.held(others.pk, others.attempt).exists()


def test_every_attempt_has_one_entry_in_the_ledger(alice: User, worker: Worker) -> None:
    submit(alice, count=2)
    lost = claim(worker)
    draw(lost, 0)
    Job.objects.filter(pk=lost.pk).update(
        state="running", attempt=1, started_at=Now() - timedelta(seconds=100),
        lease_until=Now() - timedelta(seconds=1),
    )  # fmt: skip
    failed = claim(worker)
    Job.objects.release(failed, "device_failed", 2.5)
    last = claim(worker)
    draw(last, 1)
    Job.objects.filter(pk=last.pk).update(state="running", attempt=3)
    assert Job.objects.finish(last, "succeeded", gpu_seconds=1.5)
    ledger = UsageEntry.objects.order_by("attempt")
    entries = list(ledger.values_list("attempt", "outcome", "images", "worker"))
    slot = "atelier-01/cpu/bf16"
    assert entries == [
        (1, "lost", 1, slot), (2, "device_failed", 0, slot), (3, "succeeded", 1, slot)
    ]  # fmt: skip
    seconds = list(ledger.values_list("gpu_seconds", flat=True))
    # From the start to the last sign, which is a lease before it ran out.
    assert seconds == pytest.approx([39, 2.5, 1.5], abs=0.5)


def test_the_sets_of_loras_have_the_same_name_in_any_order(alice: User) -> None:
    night, lines = Lora(sha256="b" * 64), Lora(sha256="a" * 64)
    assert lora_set([night, lines]) == lora_set([lines, night]) == f"{'a' * 16},{'b' * 16}"
    assert lora_set([]) == ""
