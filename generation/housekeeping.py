"""What the housekeeping cluster does on its schedule."""

import logging
from collections.abc import Mapping
from datetime import timedelta

from django.db.models.functions import Now
from django.utils import timezone
from django_q.models import Schedule, Task

from generation import offboarding, trials
from generation.models import Job
from gpu.engines import ENGINES

log = logging.getLogger(__name__)

# django-q2 writes a row for each wake-up. They are its log, not ours: the ledger keeps the attempts.
TASKS_KEPT = 1000
# What runs, and after how many minutes again.
CHORES = {"sweep": 1, "offboard": 1}


# The functions that the housekeeping cluster runs, by their dotted names, and after how many minutes again.
# It runs no others, whatever the database says.
_allowed: dict[str, int] = {}


def allow(module: str, chores: Mapping[str, int]) -> None:
    """Let the housekeeping cluster run these functions of ``module``; called when the apps are ready."""
    _allowed.update({f"{module}.{chore}": minutes for chore, minutes in chores.items()})


def schedule(module: str, chores: Mapping[str, int]) -> None:
    """Give each chore of ``module`` a row that says when it runs next; called after each migration.

    A new studio's first minute is left to its people: trials of the demo's LoRAs would come first.
    """
    for chore, minutes in chores.items():
        row = {
            "schedule_type": Schedule.MINUTES,
            "minutes": minutes,
            "repeats": -1,
            "func": f"{module}.{chore}",
        }
        first = {"next_run": timezone.now() + timedelta(minutes=1)}
        Schedule.objects.update_or_create(name=chore, defaults=row, create_defaults=row | first)
    Schedule.objects.filter(func__startswith=f"{module}.").exclude(name__in=chores).delete()


def take_due() -> str | None:
    """Take a chore whose time has come, and plan its next run; returns the function's dotted name.

    If several clusters ask at once, one gets the chore. A row only says when: what runs is ``_allowed``.
    """
    due = Schedule.objects.filter(func__in=_allowed, next_run__lte=Now()).order_by("next_run")
    for pk, function, next_run in due.values_list("pk", "func", "next_run"):
        again = Now() + timedelta(minutes=_allowed[function])
        if Schedule.objects.filter(pk=pk, next_run=next_run).update(next_run=again):
            return str(function)
    return None


def sweep() -> str:
    """End what no worker is there to end, prune django-q2's rows, and see to trials.

    Each of it whatever becomes of the others; what went wrong is raised in the end, so that the task fails.
    """
    done: dict[str, object] = {}
    wrong = []
    for step in (cancel_for_closed, end_abandoned, trials.sweep, prune_tasks):
        try:
            done[step.__name__] = step()
        except Exception as error:
            log.exception("%s.%s failed; the sweeper goes on", step.__module__, step.__name__)
            wrong.append(error)
    if wrong:
        raise ExceptionGroup("The sweeper could not do all of it", wrong)
    return f"{done['end_abandoned']} jobs ended, {done['prune_tasks']} rows of django-q2 deleted"


def cancel_for_closed() -> int:
    """Cancel jobs of accounts that were switched off behind Django's back, such as by SQL."""
    return Job.objects.cancel_for_closed()


def end_abandoned() -> int:
    """End the jobs that nobody is to try again; returns how many."""
    return sum(Job.objects.end_abandoned(engine) for engine in ENGINES)


def offboard() -> str:
    """Go on with what those who left have left behind."""
    return offboarding.go_on_with_all()


def prune_tasks() -> int:
    """Delete all but the newest rows of what django-q2 ran; returns how many."""
    last_kept = Task.objects.order_by("-started").values_list("started", flat=True)[
        TASKS_KEPT : TASKS_KEPT + 1
    ]
    for started in last_kept:
        deleted, _ = Task.objects.filter(started__lte=started).delete()
        return int(deleted)
    return 0
