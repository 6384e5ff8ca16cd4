"""What the housekeeping cluster does on its schedule."""

import logging

from django_q.models import Schedule, Task

from generation.models import Job
from gpu.engines import ENGINES

log = logging.getLogger(__name__)

# django-q2 writes a row for each wake-up. They are its log, not ours: the ledger keeps the attempts.
TASKS_KEPT = 1000


def schedule() -> None:
    """Tell django-q2; called after each migration."""
    Schedule.objects.update_or_create(
        name="sweep",
        defaults={
            "func": "generation.housekeeping.sweep",
            "schedule_type": Schedule.MINUTES,
            "minutes": 1,
            "repeats": -1,
        },
    )


def sweep() -> str:
    """End what no worker is there to end, and prune django-q2's rows."""
    ended = sum(Job.objects.end_abandoned(engine) for engine in ENGINES)
    return f"{ended} jobs ended, {prune_tasks()} rows of django-q2 deleted"


def prune_tasks() -> int:
    """Delete all but the newest rows of what django-q2 ran; returns how many."""
    last_kept = Task.objects.order_by("-started").values_list("started", flat=True)[
        TASKS_KEPT : TASKS_KEPT + 1
    ]
    for started in last_kept:
        deleted, _ = Task.objects.filter(started__lte=started).delete()
        return int(deleted)
    return 0
