"""What the one worker of a cluster does, in memory that its processes share, and the watch over it.

The pusher watches: it is a process of its own, so it sees a worker that hangs in C with Python's lock held.
"""

import logging
import multiprocessing
import os
import signal
import statistics
import time
from collections import deque
from ctypes import c_double, c_int
from multiprocessing.sharedctypes import RawValue
from multiprocessing.util import Finalize

from django.conf import settings

log = logging.getLogger(__name__)

BUSY, READY, WOKEN = 0, 1, 2
# A worker that was killed while idle leaves django-q2's queue locked for ever (its issue 23): nobody
# answers a wake-up again. A healthy worker answers in milliseconds. Only time in which the pusher itself
# runs is counted, LOOK_SECONDS at most between two looks: on a host that stands still nobody answers.
UNANSWERED_SECONDS = 10.0
LOOK_SECONDS = 0.5
# A step may take this many times as long as they usually do ...
TIMES_USUAL = 10
# ... and what comes before the first one, the prompt and the LoRAs, so many times FLUXSITE_STUCK_SECONDS.
BEFORE_THE_FIRST = 3


class WatchedWorker:
    """Made when this module is imported, which is before the sentinel forks: all processes see the same."""

    def __init__(self) -> None:
        self._state = RawValue(c_int, BUSY)
        self._pid = RawValue(c_int, 0)
        self._model = RawValue(c_int, 0)
        self._wants_more = RawValue(c_int, 0)
        self._rests_until = RawValue(c_double, 0.0)
        self._deadline = RawValue(c_double, 0.0)
        # Only the worker releases it and only the pusher acquires it: who is killed holds nothing.
        self._spoke = multiprocessing.Semaphore(0)
        self._stops = RawValue(c_int, 0)
        self._unanswered = 0.0
        self._looked_at = 0.0

    # The worker says --------------------------------------------------------------------------------

    def started(self) -> None:
        self._deadline.value = 0.0
        self._pid.value = os.getpid()
        self._model.value = 0
        self.ready()

    def ready(self, rest: float = 0.0, more: bool = False) -> None:
        """It waits for a task, or for nothing for ``rest`` seconds; ``more``: it had one and wants more."""
        self._wants_more.value = int(more)
        self._rests_until.value = time.monotonic() + rest if rest else 0.0
        self._state.value = READY
        self._spoke.release()

    def busy(self) -> None:
        self._state.value = BUSY

    def holds_model(self, holds: bool) -> None:
        self._model.value = int(holds)

    def must_step_within(self, seconds: float) -> None:
        """Kill this process if it says nothing for so long; 0 ends the watch."""
        self._deadline.value = time.monotonic() + seconds if seconds else 0.0

    def stops(self) -> bool:
        """Whether the cluster is told to stop: whatever waits in the worker gives up."""
        return bool(self._stops.value)

    # The pusher says --------------------------------------------------------------------------------

    def pusher_started(self) -> None:
        """django-q2 ends the pusher first and then waits for the worker, which has no other sign of it."""
        self._stops.value = 0
        Finalize(self, self._pusher_ended, exitpriority=1)

    def _pusher_ended(self) -> None:
        self._stops.value = 1

    # The pusher asks --------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Until the worker is ready again, at most so long."""
        self._spoke.acquire(timeout=seconds)

    def is_ready(self) -> bool:
        return self._state.value == READY and time.monotonic() >= self._rests_until.value

    def is_busy(self) -> bool:
        return self._state.value == BUSY

    def wants_more(self) -> bool:
        return bool(self._wants_more.value)

    def has_model(self) -> bool:
        return bool(self._model.value)

    def woken(self) -> None:
        self._unanswered, self._looked_at = 0.0, time.monotonic()
        self._state.value = WOKEN

    def watch(self) -> None:
        """Kill the worker if it is stuck, and the whole cluster if nobody answers a wake-up."""
        now = time.monotonic()
        self._unanswered += min(now - self._looked_at, LOOK_SECONDS)
        self._looked_at = now
        if self._state.value == WOKEN and self._unanswered > UNANSWERED_SECONDS:
            log.critical("The worker does not answer; its cluster is ended and starts again")
            os.kill(os.getppid(), signal.SIGKILL)  # the sentinel: its children die with it
        if 0 < self._deadline.value < now:
            log.critical("Process %d is stuck in a step; it is killed and starts again", self._pid.value)
            self._deadline.value = 0.0
            os.kill(self._pid.value, signal.SIGKILL)


worker = WatchedWorker()


class StepClock:
    """How long steps take here, and so how long the next one may take."""

    def __init__(self) -> None:
        self._seconds_per_pixel: deque[float] = deque(maxlen=50)
        self._last = 0.0

    def start(self) -> None:
        """Before the first step of a picture."""
        self._last = 0.0
        worker.must_step_within(BEFORE_THE_FIRST * settings.FLUXSITE_STUCK_SECONDS)

    def step(self, pixels: int) -> None:
        """A step is done, of pictures that have so many pixels together."""
        now = time.monotonic()
        if self._last:
            self._seconds_per_pixel.append((now - self._last) / pixels)
        self._last = now
        usual = statistics.median(self._seconds_per_pixel) * pixels if self._seconds_per_pixel else 0.0
        worker.must_step_within(max(settings.FLUXSITE_STUCK_SECONDS, TIMES_USUAL * usual))

    @staticmethod
    def stop() -> None:
        worker.must_step_within(0)
