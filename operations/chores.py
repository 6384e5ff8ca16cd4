"""What the housekeeping cluster does for whoever runs the studio."""

from django.conf import settings
from django_q.models import Schedule

from operations import log_files

# What runs, and after how many minutes again.
CHORES = {"rotate_logs": 1}


def schedule() -> None:
    """Tell django-q2; called after each migration."""
    for chore, minutes in CHORES.items():
        when = {"schedule_type": Schedule.MINUTES, "minutes": minutes, "repeats": -1}
        Schedule.objects.update_or_create(name=chore, defaults={"func": f"operations.chores.{chore}", **when})


def rotate_logs() -> int:
    return log_files.rotate(settings.LOG_DIR, settings.FLUXSITE_LOG_MB * 10**6)
