"""How django-q2 learns that there is work: brokers that let it hold nothing.

django-q2's pusher process asks a broker for tasks and passes them to the worker process. Any task that
it takes early is a job that no other GPU can have and that dies with the cluster. So ``JobBroker`` hands
out one *wake-up* at a time, and only while its own worker is idle and a job waits; the worker then
claims a row itself (``generation.queue``). Submitting a job is its INSERT, and there is nothing else to lose.

Both brokers also watch the worker of their cluster, which nothing else does: see ``generation.watch``.

Neither broker takes a task out of the database: each packs its own, with a function that the code names. A
task of django-q2 is a pickle, and a schedule of django-q2 names a function and its arguments, so either in
the table would let whoever writes to the database run code here.
"""

import logging
import multiprocessing
import os
import signal
import time
import uuid

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone
from django_q.brokers import Broker
from django_q.signing import SignedPackage

from generation import housekeeping
from generation.models import Job
from generation.wake_up import WakeUps
from generation.watch import worker
from gpu.models import Mode, Worker

log = logging.getLogger(__name__)

# How long to trust that nothing changed: leases run out without a write to the database.
RECHECK_SECONDS = 1.0
# ``dequeue`` returns at least this often, so that the pusher sees that it is told to stop.
RETURN_SECONDS = 0.25
# How often a busy worker is looked at, to see whether it is stuck.
GLANCE_SECONDS = 0.05
TASK = "generation.runner.run_jobs"


def ignore_sigterm() -> None:
    """In django-q2's sentinel, before it forks the others: they all ignore it then.

    A SIGTERM to the whole process group would else end the worker in the middle of a picture, and the
    main process would wait for it for ever. Main, told alone or with the group, stops the others in order.
    """
    if multiprocessing.parent_process():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class WatchingBroker(Broker):  # type: ignore[misc]
    """What both brokers do besides: watch the worker, and let it know when the pusher ends."""

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key)
        ignore_sigterm()
        self.pusher = 0

    def watch(self) -> None:
        if self.pusher != os.getpid():  # the first call after the fork
            self.pusher = os.getpid()
            worker.pusher_started()
        worker.watch()

    def ping(self) -> bool:
        return True


class JobBroker(WatchingBroker):
    """``list_key`` is the name of the cluster and of the engine whose jobs it runs."""

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key)
        self.wake_ups = WakeUps()
        self.checked_at = 0.0
        self.slot = (settings.FLUXSITE_HOST, settings.FLUXSITE_DEVICE, self.list_key)

    def dequeue(self) -> list[tuple[str, str]] | None:
        """One wake-up, or None after a quarter of a second without any."""
        until = time.monotonic() + RETURN_SECONDS
        look = False
        while (left := until - time.monotonic()) > 0:
            self.watch()
            if not worker.is_ready():
                worker.wait(GLANCE_SECONDS)
            # After a job the worker looks for the next one itself: asking here as well would cost its time.
            elif worker.wants_more() or ((look or self._is_due()) and self._work_waits()):
                worker.woken()
                return [packed(f"{self.list_key} wake-up", TASK, self.list_key)]
            else:
                look = self._something_written(left)
        # What was heard and not yet looked at is not forgotten.
        self.checked_at = 0.0 if look else self.checked_at
        return None

    def _is_due(self) -> bool:
        return time.monotonic() - self.checked_at > RECHECK_SECONDS

    def _something_written(self, seconds: float) -> bool:
        try:
            return self.wake_ups.wait(seconds)
        except DatabaseError:
            return self._database_is_away()

    def _work_waits(self) -> bool:
        """Whether the worker has something to do: a job, or to give its memory back."""
        self.checked_at = time.monotonic()
        try:
            if Job.objects.work_for(*self.slot):
                return True
            return worker.has_model() and Worker.wanted(*self.slot) == Mode.DRAIN
        except DatabaseError:
            return self._database_is_away()

    def _database_is_away(self) -> bool:
        # An exception out of ``dequeue`` would stop the pusher for ten seconds and end it.
        log.warning("The queue cannot be read; trying again", exc_info=True)
        self.wake_ups.close()
        connection.close()
        close_old_connections()
        time.sleep(RECHECK_SECONDS)
        return False

    def info(self) -> str:
        return f"job table ({self.list_key})"

    def queue_size(self) -> int:
        return int(Job.objects.queued(self.list_key).count())

    def lock_size(self) -> int:
        return 0


class HousekeepingBroker(WatchingBroker):
    """Hands out the chores that are due (``generation.housekeeping``), one at a time, and watches."""

    def dequeue(self) -> list[tuple[str, str]] | None:
        self.watch()
        if not worker.is_ready():
            time.sleep(RETURN_SECONDS)
            return None
        try:
            function = housekeeping.take_due()
        except DatabaseError:
            log.warning("The schedule cannot be read; trying again", exc_info=True)
            connection.close()
            function = None
        if function is None:
            time.sleep(RECHECK_SECONDS)
            return None
        worker.woken()
        return [packed(function, function)]

    def info(self) -> str:
        return "housekeeping"


def packed(name: str, function: str, *args: str) -> tuple[str, str]:
    """A task as django-q2's pusher unpacks it, in this very process; without a number to acknowledge."""
    task = {
        "id": uuid.uuid4().hex,
        "name": name,
        "func": function,
        "args": args,
        "kwargs": {},
        "started": timezone.now(),
    }
    return "", str(SignedPackage.dumps(task))
