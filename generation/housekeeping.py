"""What the housekeeping cluster does on its schedule."""

import logging
import re
from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone
from django_q.models import Schedule, Task

from files import storage
from generation import offboarding, trials
from generation.models import Image, Job
from gpu.engines import ENGINES
from loras import library

log = logging.getLogger(__name__)

# django-q2 writes a row for each wake-up. They are its log, not ours: the ledger keeps the attempts.
TASKS_KEPT = 1000


# Longer than any attempt can take between a picture's files and its row.
ORPHANED_AFTER = timedelta(hours=1)
# What runs, and after how many minutes again.
CHORES = {"sweep": 1, "offboard": 1, "delete_orphans": 60}


def schedule() -> None:
    """Tell django-q2; called after each migration."""
    for chore, minutes in CHORES.items():
        when = {"schedule_type": Schedule.MINUTES, "minutes": minutes, "repeats": -1}
        Schedule.objects.update_or_create(
            name=chore, defaults={"func": f"generation.housekeeping.{chore}", **when}
        )


def sweep() -> str:
    """End what no worker is there to end, and prune django-q2's rows."""
    library.delete_abandoned_uploads()
    trials.sweep()
    ended = sum(Job.objects.end_abandoned(engine) for engine in ENGINES)
    return f"{ended} jobs ended, {prune_tasks()} rows of django-q2 deleted"


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


def delete_orphans(older_than: timedelta = ORPHANED_AFTER) -> int:
    """Delete the files of pictures whose worker was killed before it entered them; returns how many.

    Looks at the folders of today and yesterday: it comes by each hour.
    """
    now = timezone.now()
    deleted = 0
    for day in (now, now - timedelta(days=1)):
        folder = day.strftime("images/%Y/%m/%d")
        try:
            names = storage.listdir(folder)[1]
        except FileNotFoundError:
            continue
        old = {name: pk for name in names if (pk := _made_before(name, now - older_than))}
        kept = set(Image.objects.filter(pk__in=set(old.values())).values_list("pk", flat=True))
        for name in (name for name, pk in old.items() if pk not in kept or name.startswith(".")):
            storage.delete(f"{folder}/{name}")
            deleted += 1
    return deleted


def _made_before(name: str, moment: datetime) -> UUID | None:
    """The picture that a file is of, if its id, which begins with the time, is older than ``moment``."""
    found = re.match(r"\.?([0-9a-f-]{36})\.", name)
    if found is None:
        return None
    pk = UUID(found.group(1))
    return pk if (pk.int >> 80) < moment.timestamp() * 1000 else None
