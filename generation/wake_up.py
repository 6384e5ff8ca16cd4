"""How a cluster hears at once that a job came: PostgreSQL tells it, SQLite's file has a version number."""

import time

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

CHANNEL = "fluxsite_jobs"
POLL_SECONDS = 0.01


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

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether something was written that may be a job."""
        if connection.vendor == "postgresql":
            return self._notified(seconds)
        time.sleep(min(seconds, POLL_SECONDS))
        return self._written()

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

    def close(self) -> None:
        if self._listening:
            self._listening.close()
            self._listening = None

    def _written(self) -> bool:
        """Whether another connection has committed since the last call. Reading this touches no table."""
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = int(cursor.fetchone()[0])
        changed, self._version = version != self._version, version
        return changed
