"""What runs on the schedule."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.utils import timezone
from django_q.models import Schedule, Task
from uuid_utils.compat import uuid7

from accounts.models import User
from generation import housekeeping
from generation.models import Job
from gpu.models import Worker
from tests.conftest import submit
from tests.generation.drawn import draw
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


def test_only_the_newest_rows_of_django_q2_are_kept(db: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(housekeeping, "TASKS_KEPT", 3)
    for n in range(5):
        at = timezone.now() + timedelta(seconds=n)
        Task.objects.create(id=f"{n}", name=f"{n}", func="f", started=at, stopped=at, success=True)
    assert housekeeping.prune_tasks() == 2
    assert sorted(Task.objects.values_list("name", flat=True)) == ["2", "3", "4"]


def test_each_migration_sees_to_the_schedule_and_makes_it_once(db: None) -> None:
    call_command("migrate", verbosity=0)
    assert dict(Schedule.objects.values_list("func", "minutes")) == {
        "generation.housekeeping.sweep": 1,
        "generation.housekeeping.offboard": 1,
        "generation.housekeeping.delete_orphans": 60,
        "operations.chores.rotate_logs": 1,
        "operations.chores.cleanup": 1440,
    }


def test_files_that_no_row_names_are_deleted_once_they_are_old(alice: User, media: Path) -> None:
    """A worker was killed between the files and the row."""
    kept = draw(submit(alice))
    folder = (media / str(kept.file)).parent
    orphan, half = folder / f"{uuid7()}.png", folder / f".{uuid7()}.png.x1.tmp"
    for file in (orphan, half):
        file.write_bytes(b"left")
    assert housekeeping.delete_orphans() == 0
    assert housekeeping.delete_orphans(older_than=timedelta(0)) == 2
    assert sorted(path.name for path in folder.iterdir()) == [f"{kept.pk}.png", f"{kept.pk}.webp"]
