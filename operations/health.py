"""What must be right for the studio to draw: for ``/readyz``, ``manage.py doctor`` and the admin alike."""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Min
from django.utils import timezone

from generation.models import Job
from generation.words import duration
from gpu.engines import ENGINES
from gpu.models import Mode, Pool, Worker
from operations import studio
from operations.models import Cleanup

log = logging.getLogger(__name__)

# It comes by daily: one day may be lost to a restart.
CLEANUP_WITHIN = timedelta(days=2)


@dataclass(frozen=True)
class Finding:
    """What a check found: ``detail`` says what is, ``remedy`` what to do about it.

    ``matters``: without it nothing can be stored or read, so no request should come here.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    matters: bool = False


Check = Callable[[], Finding]


def findings() -> Iterator[Finding]:
    """One for each check, the database's first: when that is away the others cannot be asked."""
    yield (first := database())
    yield from map(answer, CHECKS if first.ok else (disk,))


def answer(check: Check) -> Finding:
    """What the check finds, also when the database goes away meanwhile, or has no such table yet."""
    try:
        return check()
    except (DatabaseError, InterfaceError) as error:
        log.warning("The check of %s failed: %s", check.__name__, error)
        return Finding(check.__name__, False, f"The database did not answer: {_first_line(error)}")


def database() -> Finding:
    remedy = "Start it, or look at FLUXSITE_DATABASE_URL."
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError) as error:
        return Finding("database", False, f"It does not answer: {_first_line(error)}", remedy, matters=True)
    return Finding("database", True, f"{connection.vendor} answers.", matters=True)


def disk() -> Finding:
    """Pictures, and what lies beside the database, need room."""
    floor = settings.FLUXSITE_DISK_FLOOR_MB * 10**6
    free = {path: _free_bytes(path) for path in {settings.MEDIA_ROOT, settings.VAR_DIR}}
    path, least = min(free.items(), key=lambda item: item[1])
    return Finding(
        "disk", least >= floor, f"{least / 1e9:.1f} GB are free at {path}; {floor / 1e9:.1f} GB are needed.",
        "Make room: manage.py cleanup. Until then workers take no job and uploads are refused.", matters=True,
    )  # fmt: skip


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def workers() -> Finding:
    """Every worker that was not stopped on purpose is heard of, and each engine that takes jobs has one."""
    alive = set(Worker.objects.alive().values_list("pk", flat=True))
    running = list(Worker.objects.exclude(state=Worker.State.STOPPED))
    silent = [f"{worker} for {_since(worker.heartbeat)}" for worker in running if worker.pk not in alive]
    waiting = [f"{worker}: {worker.note}" for worker in running if worker.state == Worker.State.WAITING]
    said = [f"Nothing was heard of {', '.join(silent)}."] if silent else []
    said += [f"Waiting: {'; '.join(waiting)}"] if waiting else []
    if not alive:
        said.append("No worker is there: jobs wait.")
    return Finding(
        "workers", not said, " ".join(said) or f"{len(alive)} are there.",
        "Start what is missing: manage.py up, or manage.py workers on a GPU host. "
        "What was taken away for good can be deleted in the admin.",
    )  # fmt: skip


def queue() -> Finding:
    """No job waits too long for an engine that takes jobs."""
    longest = timedelta(minutes=settings.FLUXSITE_QUEUE_AGE_MINUTES)
    paused = set(Pool.objects.exclude(mode=Mode.RUN).values_list("engine", flat=True))
    ages = {engine: age for engine in ENGINES if engine not in paused and (age := queue_age(engine))}
    late = [f"{engine} for {duration(age.total_seconds())}" for engine, age in ages.items() if age > longest]
    return Finding(
        "queue", not late, f"Jobs wait: {', '.join(late)}." if late else "No job waits long.",
        "More workers for that engine, quotas, or a smaller limit of its queue. See manage.py queue.",
    )  # fmt: skip


def queue_age(engine: str) -> timedelta | None:
    """How long the oldest waiting job has waited."""
    oldest: datetime | None = Job.objects.queued(engine).aggregate(oldest=Min("created_at"))["oldest"]
    return timezone.now() - oldest if oldest else None


def cleanup() -> Finding:
    """It came by lately, and on each host deleted all that it wanted to."""
    now = timezone.now()
    last = Cleanup.objects.exclude(finished_at=None).first()
    latest = last.finished_at if last else _installed_at()
    late = latest is not None and latest < now - CLEANUP_WITHIN
    remedy = (
        "Look at manage.py logs follow, and run manage.py cleanup. Housekeeping or a timer runs it daily."
    )
    # A host that was taken away is not remembered for ever.
    recent = Cleanup.objects.filter(finished_at__gt=now - CLEANUP_WITHIN).order_by("pk")
    last_of_host = {one.host: one for one in recent}
    if failed := [one for one in last_of_host.values() if one.error]:
        errors = "; ".join(f"{one.error} (on {one.host})" for one in failed)
        return Finding("cleanup", False, f"Not all could be deleted: {errors}", remedy)
    when = f"The last was {_since(latest)} ago." if last else "None yet."
    return Finding("cleanup", not late, when, remedy)


def _installed_at() -> datetime | None:
    applied = MigrationRecorder(connection).migration_qs.filter(app="operations")
    return applied.aggregate(first=Min("applied"))["first"]  # type: ignore[no-any-return]


def _since(when: datetime | None) -> str:
    return duration((timezone.now() - when).total_seconds()) if when else ""


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def owner() -> Finding:
    """The database and the files are of one studio."""
    try:
        studio.confirm()
    except OSError as error:
        return Finding(
            "studio", False, str(error), "Until then no file is deleted, and no backup is made or restored."
        )
    return Finding("studio", True, f"Database and files are those of {studio.identity().database}.")


CHECKS: tuple[Check, ...] = (disk, owner, workers, queue, cleanup)
