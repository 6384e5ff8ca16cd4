"""``manage.py workers``: the GPU workers of this machine, without the pages."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gpu import devices, slots
from gpu.engines import ENGINES, backends
from gpu.model_size import ModelSize
from gpu.nunchaku_package import nunchaku_installed
from gpu.slots import Slot
from gpu.supervisor import Child, Supervisor


class Command(BaseCommand):
    help = (
        "Start workers on this machine's GPUs and keep them running, until Ctrl-C. Without a choice the GPUs "
        "are allotted: see manage.py gpus. Another machine needs the same database, media and secret key."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_slot_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        taken = slots_from(options)
        for slot in taken:
            self.stdout.write(str(slot))
        self.stdout.flush()
        Supervisor([cluster(slot) for slot in taken]).run()
        self.stdout.write("Stopped.")


def add_slot_arguments(parser: ArgumentParser) -> None:
    for engine in ENGINES:
        parser.add_argument(
            f"--{engine}", metavar="GPUS", help="GPU numbers or UUIDs with commas between, or cpu"
        )


def slots_from(options: dict[str, Any]) -> list[Slot]:
    """The slots that were asked for, or those allotted. Raises CommandError."""
    there = devices.all_devices()
    try:
        asked = [slot for engine in ENGINES for slot in slots.chosen(engine, options[engine] or "", there)]
    except LookupError as error:
        raise CommandError(str(error)) from error
    if len(set(asked)) < len(asked):
        raise CommandError("A device is named twice for one engine.")
    return asked or _allotted(there)


def _allotted(there: Sequence[devices.Device]) -> list[Slot]:
    plan_for = partial(
        backends.plan,
        host=there[-1],
        model=ModelSize.of(settings.FLUXSITE_MODEL),
        nunchaku=nunchaku_installed(),
        adapters=settings.FLUXSITE_LORAS_IN_MEMORY_MB * 1024**2,
    )
    return slots.allot(there, plan_for)


def cluster(slot: Slot) -> Child:
    """A django-q2 cluster of one worker on a slot."""
    return Child(f"{slot} worker", _qcluster(), slot.environment)


def housekeeping() -> Child:
    """The cluster that runs the schedules. One is enough for all hosts; a second one does no harm."""
    return Child(
        "housekeeping",
        _qcluster(),
        {"Q_CLUSTER_NAME": settings.Q_CLUSTER["name"], "CUDA_VISIBLE_DEVICES": ""},
    )


def _qcluster() -> list[str]:
    return [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), "qcluster"]
