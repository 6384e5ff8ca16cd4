"""What ``manage.py doctor`` looks at besides ``operations.health``: how this machine is set up."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core import checks
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from files import private
from gpu.models import Worker
from operations import health, releases
from operations.health import Finding

# Leases and sessions are in minutes; more than this and times in lists contradict each other.
CLOCKS_APART_SECONDS = 2.0
# Beyond this part of PostgreSQL's connections the next host may get none.
CONNECTIONS_USED = 0.8


def findings() -> Iterator[Finding]:
    """All that can be looked at, the database's first."""
    found = list(health.findings())
    yield from found
    yield from map(health.answer, (migrations, clock, connections) if found[0].ok else ())
    yield files()
    yield static_files()
    yield from system_checks()


def migrations() -> Finding:
    try:
        releases.refuse_newer(settings.FLUXSITE_RELEASE)
    except releases.NewerDatabase as error:
        return Finding("migrations", False, str(error), "Until then start nothing of this release.")
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    first = f"{plan[0][0].app_label}.{plan[0][0].name}" if plan else ""
    return Finding(
        "migrations", not plan, f"{len(plan)} are missing, first {first}." if plan else "All are applied.",
        "Stop the studio and run manage.py migrate; ./run does it at each start.",
    )  # fmt: skip


def clock() -> Finding:
    """This machine's and the database's agree, and no time is still to come."""
    now = timezone.now()
    apart = 0.0
    if connection.vendor == "postgresql":  # SQLite has this machine's
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            apart = (cursor.fetchone()[0] - now).total_seconds()
    latest = Worker.objects.order_by("-heartbeat").values_list("heartbeat", flat=True).first()
    ahead = (latest - now).total_seconds() if latest else 0.0
    wrong = max(abs(apart), ahead)
    return Finding(
        "clock", wrong < CLOCKS_APART_SECONDS,
        f"{wrong:.1f} s apart from the database's, or it was set back." if wrong >= CLOCKS_APART_SECONDS
        else "It agrees with the database's.",
        "Let NTP set it: timedatectl set-ntp true. On each host.",
    )  # fmt: skip


def connections() -> Finding:
    """There is room for more: each worker holds about four (``bench.scale``)."""
    if connection.vendor != "postgresql":
        return Finding("connections", True, "SQLite counts none.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*), current_setting('max_connections')::int FROM pg_stat_activity")
        used, most = cursor.fetchone()
    return Finding(
        "connections", used < CONNECTIONS_USED * most, f"{used} of PostgreSQL's {most} are used.",
        "Make max_connections larger in postgresql.conf, and restart PostgreSQL.",
    )  # fmt: skip


def files() -> Finding:
    """What must be written can be, and nothing is anybody else's to read."""
    database = settings.DATABASES["default"]["NAME"] if connection.vendor == "sqlite" else ""
    ours = [settings.VAR_DIR, settings.LOG_DIR, settings.MEDIA_ROOT, settings.LOG_DIR / "fluxsite.log"]
    ours += [Path(f"{database}{end}") for end in ("", "-wal", "-shm") if database]
    said = [f"{path} cannot be written" for path in ours if path.exists() and not os.access(path, os.W_OK)]
    folders = [settings.VAR_DIR, settings.LOG_DIR]
    group = bool(settings.FLUXSITE_ACCEL)
    reachable = private.open_to_others(folders, settings.MEDIA_ROOT, group_reads_media=group)
    said += [f"{path} can be read by others" for path in dict.fromkeys(reachable)]
    return Finding(
        "files", not said, f"{'; '.join(said)}." if said else f"All in {settings.DATA_DIR} is ours to write.",
        f"Run everything as one account; with sudo: chown -R ACCOUNT {quote(str(settings.DATA_DIR))}. Then "
        "start the studio once: it takes away what others may read.",
    )  # fmt: skip


def static_files() -> Finding:
    """Every style, script and icon was collected, as it is now."""
    remedy = "Run manage.py collectstatic; ./run does it at each start."
    name = getattr(staticfiles_storage, "manifest_name", "")
    if not name:
        return Finding("static files", True, "Served as they are.")
    manifest = settings.STATIC_ROOT / name
    if not manifest.exists():
        return Finding("static files", False, "They were never collected: pages have no style.", remedy)
    collected, made = json.loads(manifest.read_text())["paths"], manifest.stat().st_mtime
    stale = [name for name, path in _sources() if name not in collected or path.stat().st_mtime > made]
    said = (
        f"{len(stale)} were not collected, such as {stale[0]}." if stale else f"{len(collected)} are there."
    )
    return Finding("static files", not stale, said, remedy)


def _sources() -> Iterator[tuple[str, Path]]:
    for finder in get_finders():
        for name, storage in finder.list(None):
            yield name, Path(storage.path(name))


def system_checks() -> Iterator[Finding]:
    """Django's and ours; behind TLS also those for a studio that others reach."""
    found: list[Any] = checks.run_checks(include_deployment_checks=settings.SECURE_SSL_REDIRECT)
    for message in found:
        if not message.is_silenced():
            yield Finding(message.id or "check", False, message.msg, message.hint or "")
    if not found:
        yield Finding("system checks", True, "None has anything to say.")
