"""How a cluster hears at once that a job came: PostgreSQL tells it, or the kernel tells of SQLite's file."""

import logging
import time
from pathlib import Path

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from inotify_simple import INotify, flags

CHANNEL = "fluxsite_jobs"
# Where the kernel does not tell (some network mounts), how often to ask.
POLL_SECONDS = 0.01
# The kernel tells of a write before its commit is to be seen: 1 ms before, where an fsync takes 0.5 ms.
COMMITTED_WITHIN_SECONDS = 0.03

log = logging.getLogger(__name__)


def send() -> None:
    """Wake the idle workers once the transaction commits; on SQLite the commit itself does."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


class WakeUps:
    """Waits for wake-ups. Used by one thread, outside of transactions; a DatabaseError may come out of it."""

    def __init__(self) -> None:
        self._version = -1
        self._listening: BaseDatabaseWrapper | None = None
        self._directory: INotify | None = None
        self._may_watch = True

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether something was written that may be a job."""
        if connection.vendor == "postgresql":
            return self._notified(seconds)
        return self._written() or self._written_within(seconds)

    def close(self) -> None:
        for each in (self._listening, self._directory):
            if each:
                each.close()
        self._listening = self._directory = None

    # PostgreSQL ---------------------------------------------------------------------------------------

    def _notified(self, seconds: float) -> bool:
        listening = self._listening or self._listen()
        with listening.wrap_database_errors:
            return any(True for _ in listening.connection.notifies(timeout=seconds, stop_after=1))

    def _listen(self) -> BaseDatabaseWrapper:
        """A connection of its own: a pooled one would lose its LISTEN between two transactions."""
        self._listening = connection.copy()
        self._listening.ensure_connection()
        self._listening.connection.execute(f"LISTEN {CHANNEL}")
        return self._listening

    # SQLite -------------------------------------------------------------------------------------------

    def _written(self) -> bool:
        """Whether another connection has committed since the last call. Reading this touches no table."""
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = int(cursor.fetchone()[0])
        changed, self._version = version != self._version, version
        return changed

    def _written_within(self, seconds: float) -> bool:
        database = Path(connection.settings_dict["NAME"])
        directory = self._directory or self._watch(database.parent)
        if directory is None:
            time.sleep(min(seconds, POLL_SECONDS))
            return self._written()
        events = directory.read(timeout=int(seconds * 1000))
        if any(event.name == f"{database.name}-wal" for event in events):
            until = time.monotonic() + COMMITTED_WITHIN_SECONDS
            while time.monotonic() < until:
                if self._written():
                    return True
                time.sleep(0.0005)
        return False

    def _watch(self, directory: Path) -> INotify | None:
        """Ask the kernel to tell of writes in the directory, where SQLite's log comes and goes."""
        if self._may_watch:
            try:
                self._directory = INotify()
                self._directory.add_watch(directory, flags.MODIFY | flags.CREATE)
            except OSError:
                log.warning("%s cannot be watched; asking instead", directory, exc_info=True)
                self.close()
                self._may_watch = False
        return self._directory
