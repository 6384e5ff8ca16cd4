"""What operators do to workers and engines: from the page, the admin and the command line alike."""

from django.db import transaction

from generation import wake_up
from gpu.models import Mode, Pool, Worker


def set_mode(target: Pool | Worker, mode: Mode, by: str = "") -> None:
    """Pause, drain or resume. A running job is always finished. ``by``: who did it, for the others to see."""
    words = {Mode.PAUSE: "Paused", Mode.DRAIN: "Drained", Mode.RUN: ""}[mode]
    note = f"{words} by {by}" if words and by else words
    with transaction.atomic():
        type(target)._default_manager.filter(pk=target.pk).update(mode=mode, note=note)
        wake_up.send()
