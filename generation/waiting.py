"""Requests that wait until a job is over. Each keeps a thread of the web process: they are counted."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Self

from django.conf import settings
from django.http import HttpRequest
from rest_framework import status
from rest_framework.exceptions import APIException

from accounts.models import User
from generation.models import Job

# A waiting request looks at its job this often, in seconds: soon at first, as small pictures are quick.
SOONEST, LATEST = 0.05, 0.5
_lock = threading.Lock()
_taken: Counter[int] = Counter()


class NoPlace(APIException):
    """Nothing was queued."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "busy"
    default_detail = "Too many requests wait for their pictures. Try again in some seconds."
    wait = 5


class NoPlaceForOne(NoPlace):
    """One person's requests hold half of the places."""

    default_detail = "Too many of your requests wait for their pictures. Try again when one has its answer."


class Place:
    """A place in which a request of ``user`` waits; use as a context. Raises NoPlace if none is free.

    One person holds half of the places at most, but one if there is only one.
    """

    def __init__(self, user: User) -> None:
        self._owner, most = user.pk, settings.FLUXSITE_WAITING_REQUESTS
        with _lock:
            if _taken.total() >= most:
                raise NoPlace
            if _taken[self._owner] >= max(1, most // 2):
                raise NoPlaceForOne
            _taken[self._owner] += 1
        self._held = True

    def leave(self) -> None:
        """May be called again."""
        with _lock:
            if self._held:
                _taken.subtract([self._owner])
            if not _taken[self._owner]:
                del _taken[self._owner]
            self._held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.leave()


def looks(seconds: float, request: HttpRequest) -> Iterator[None]:
    """Returns each time that it is worth looking at a job, at least once, until ``seconds`` are over.

    It ends early when the client of ``request`` has disconnected, or the web process stops. The web server of
    ``manage.py up`` tells that in ``fluxsite.waits_in_vain``; another WSGI server does not.
    """
    in_vain: Callable[[], bool] = request.META.get("fluxsite.waits_in_vain", lambda: False)
    end, pause = time.monotonic() + seconds, SOONEST
    yield
    while (left := end - time.monotonic()) > 0 and not in_vain():
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LATEST)
        yield


def is_over(job: Job, seconds: float, request: HttpRequest) -> bool:
    """Wait until ``job`` is over, at most ``seconds``. Its fields stay as they are."""
    over = Job.objects.filter(pk=job.pk, state__in=Job.FINAL)
    return any(over.exists() for _ in looks(seconds, request))
