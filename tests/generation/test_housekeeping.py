"""What runs on the schedule."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from django_q.models import Schedule, Task

from accounts.models import User
from generation import housekeeping
from generation.models import Job
from gpu.models import Worker
from tests.conftest import submit
from tests.generation.test_queue import let_the_lease_run_out


def test_what_no_worker_is_left_to_end_is_ended(alice: User, settings: Any) -> None:
    settings.FLUXSITE_MAX_ATTEMPTS = 1
    submit(alice)
    job = Job.objects.claim("bf16", Worker.start("atelier-01", "cpu", "bf16", 1))
    assert job
    assert housekeeping.sweep() == "0 jobs ended, 0 rows of django-q2 deleted"
    let_the_lease_run_out(job)
    assert housekeeping.sweep() == "1 jobs ended, 0 rows of django-q2 deleted"
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "worker_died")


def test_one_thing_that_fails_does_not_stop_the_others(
    alice: User, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.FLUXSITE_MAX_ATTEMPTS = 1
    settings.FLUXSITE_MODEL = str(tmp_path / "no model")
    monkeypatch.setattr(housekeeping, "TASKS_KEPT", 0)
    now = timezone.now()
    Task.objects.create(id="1", name="1", func="f", started=now, stopped=now, success=True)
    submit(alice)
    job = Job.objects.claim("bf16", Worker.start("atelier-01", "cpu", "bf16", 1))
    assert job
    let_the_lease_run_out(job)
    with pytest.raises(ExceptionGroup) as wrong:
        housekeeping.sweep()
    assert [type(one) for one in wrong.value.exceptions] == [FileNotFoundError]
    assert not Task.objects.exists()
    job.refresh_from_db()
    assert job.state == "failed"


def test_only_the_newest_rows_of_django_q2_are_kept(db: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(housekeeping, "TASKS_KEPT", 3)
    for n in range(5):
        at = timezone.now() + timedelta(seconds=n)
        Task.objects.create(id=f"{n}", name=f"{n}", func="f", started=at, stopped=at, success=True)
    assert housekeeping.prune_tasks() == 2
    assert sorted(Task.objects.values_list("name", flat=True)) == ["2", "3", "4"]


def test_each_migration_sees_to_the_schedule_and_takes_back_what_runs_no_more(db: None) -> None:
    for module in ("generation.housekeeping", "somebody.elses"):
        Schedule.objects.create(name=f"of {module}", func=f"{module}.delete_orphans")
    call_command("migrate", verbosity=0)
    assert dict(Schedule.objects.values_list("func", "minutes")) == {
        "generation.housekeeping.sweep": 1,
        "generation.housekeeping.offboard": 1,
        "operations.chores.rotate_logs": 1,
        "operations.chores.cleanup": 1440,
        "somebody.elses.delete_orphans": None,
    }


@pytest.mark.django_db
def test_a_new_chore_begins_after_a_minute_and_an_old_one_keeps_its_time() -> None:
    """At once it drew trials before a new studio's first job."""
    Schedule.objects.all().delete()
    housekeeping.schedule("generation.housekeeping", {"sweep": 1})
    row = Schedule.objects.get()
    assert row.next_run > timezone.now() + timedelta(seconds=30)
    Schedule.objects.update(next_run=(soon := timezone.now()))
    housekeeping.schedule("generation.housekeeping", {"sweep": 5})
    row.refresh_from_db()
    assert (row.next_run, row.minutes) == (soon, 5)
