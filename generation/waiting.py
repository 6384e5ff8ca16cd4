"""Requests that wait until a job is over. Each keeps a thread of the web process, so only so many may."""

import threading
import time
from collections.abc import Iterator
from typing import Any, Self

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException

from generation.models import Job

# A job is looked at so often, in seconds: soon at first, as small pictures are quick.
SOONEST, LATEST = 0.05, 0.5
_lock = threading.Lock()
_taken = 0


class NoPlace(APIException):
    """Nothing was queued."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "busy"
    default_detail = "As many requests wait for their pictures as may. Try again in some seconds."
    wait = 5


class Place:
    """One of the places in which requests wait; use as a context. Raises NoPlace where none is free."""

    def __init__(self) -> None:
        global _taken
        with _lock:
            if _taken >= settings.FLUXSITE_WAITING_REQUESTS:
                raise NoPlace
            _taken += 1
        self._held = True

    def leave(self) -> None:
        """May be called again."""
        global _taken
        with _lock:
            _taken -= self._held
            self._held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.leave()


def looks(seconds: float) -> Iterator[None]:
    """Comes back each time that it is worth looking at a job, once at least, until ``seconds`` are over."""
    end, pause = time.monotonic() + seconds, SOONEST
    yield
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LATEST)
        yield


def is_over(job: Job, seconds: float) -> bool:
    """Wait until ``job`` is over, ``seconds`` at most. Its fields stay as they are."""
    over = Job.objects.filter(pk=job.pk, state__in=Job.FINAL)
    return any(over.exists() for _ in looks(seconds))
