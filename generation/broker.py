"""How django-q2 learns that there is work: a broker that holds nothing.

django-q2's pusher process asks a broker for tasks and passes them to the worker process. Any task that
it takes early is a job that no other GPU can have and that dies with the cluster. So this broker hands
out one *wake-up* at a time, and only while its own worker is idle and a job is eligible; the worker then
claims a row itself (``generation.queue``). Submitting a job is its INSERT, and there is nothing else to lose.
"""

import logging
import os
import signal
import time
import uuid
from ctypes import c_int
from multiprocessing.sharedctypes import RawValue

from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone
from django_q.brokers import Broker
from django_q.signing import SignedPackage

from generation.models import Job

log = logging.getLogger(__name__)

POLL_SECONDS = 0.01
# How long to trust that nothing changed: leases run out without a write to the database.
RECHECK_SECONDS = 0.5
# ``dequeue`` returns at least this often, so that the pusher sees that it is told to stop.
RETURN_SECONDS = 0.25
# A worker that was killed while idle leaves django-q2's queue locked for ever (its issue 23): nobody
# answers a wake-up again. A healthy worker answers in milliseconds.
UNANSWERED_SECONDS = 3.0
TASK = "generation.runner.run_next_job"

BUSY, IDLE, WOKEN = 0, 1, 2
# What the cluster's one worker does, in memory that sentinel, pusher and worker share: it is made when
# this module is imported, before the sentinel forks them.
worker_state = RawValue(c_int, BUSY)


class JobBroker(Broker):  # type: ignore[misc]
    """``list_key`` is the name of the cluster and of the engine whose jobs it runs."""

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key)
        self.seen_version = -1
        self.checked_at = 0.0
        self.woken_at = time.monotonic()

    def dequeue(self) -> list[tuple[str, str]] | None:
        """One wake-up, or None after a quarter of a second without any."""
        until = time.monotonic() + RETURN_SECONDS
        while time.monotonic() < until:
            if worker_state.value == IDLE and self._work_waits():
                worker_state.value = WOKEN
                self.woken_at = time.monotonic()
                return [("", self._wake_up())]
            if worker_state.value == WOKEN and time.monotonic() - self.woken_at > UNANSWERED_SECONDS:
                self._end_cluster()
            time.sleep(POLL_SECONDS)
        return None

    @staticmethod
    def _end_cluster() -> None:
        """Kill the sentinel: its children die with it, and the supervisor starts the cluster anew."""
        log.critical("The worker does not answer; its cluster is ended and starts again")
        os.kill(os.getppid(), signal.SIGKILL)

    def _work_waits(self) -> bool:
        try:
            if not self._something_changed():
                return False
            return Job.objects.eligible(self.list_key).exists()
        except DatabaseError:
            # An exception out of ``dequeue`` would stop the pusher for ten seconds and end it.
            log.exception("The queue cannot be read; trying again")
            close_old_connections()
            time.sleep(RECHECK_SECONDS)
            return False

    def _something_changed(self) -> bool:
        """Whether it is worth asking the job table: somebody wrote to the database, or it is time."""
        due = time.monotonic() - self.checked_at > RECHECK_SECONDS
        version = self._data_version()
        if version == self.seen_version and not due:
            return False
        self.seen_version, self.checked_at = version, time.monotonic()
        return True

    @staticmethod
    def _data_version() -> int:
        """A number that changes when another connection commits (SQLite); reading it touches no table."""
        if connection.vendor != "sqlite":
            return -1
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            return int(cursor.fetchone()[0])

    def _wake_up(self) -> str:
        task = {
            "id": uuid.uuid4().hex,
            "name": f"{self.list_key} wake-up",
            "func": TASK,
            "args": (self.list_key,),
            "kwargs": {},
            "started": timezone.now(),
        }
        return str(SignedPackage.dumps(task))

    def info(self) -> str:
        return f"job table ({self.list_key})"

    def ping(self) -> bool:
        return True

    def queue_size(self) -> int:
        return int(Job.objects.eligible(self.list_key).count())

    def lock_size(self) -> int:
        return 0
