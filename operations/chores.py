"""What the housekeeping cluster does for whoever runs the studio."""

import os
import subprocess
import sys
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from gpu.process import die_with_parent
from operations import log_files
from operations.models import Cleanup

# What runs, and after how many minutes again.
CHORES = {"rotate_logs": 1, "cleanup": 24 * 60}
# A timer of systemd may clean this host, too, and need not come at the same hour each day.
CLEANED_WITHIN = timedelta(hours=20)


def cleanup() -> int | None:
    """Begin it in a process of its own, which ends with this one: the sweeper comes each minute.

    Not where one has begun lately: then it returns None, else the number of the process. What becomes of it
    stands in the table of cleanups.
    """
    lately = timezone.now() - CLEANED_WITHIN
    if Cleanup.objects.filter(host=settings.FLUXSITE_HOST, started_at__gt=lately).exists():
        return None
    environment = {name: value for name, value in os.environ.items() if name != "Q_CLUSTER_NAME"}
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "cleanup"]
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    return process.pid


def rotate_logs() -> int:
    return log_files.rotate(settings.LOG_DIR, settings.FLUXSITE_LOG_MB * 10**6)
