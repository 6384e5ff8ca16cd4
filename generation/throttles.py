"""How often a user may ask the API in a minute; all web processes count together.

Each process counts in memory and enters what it counted once a second, or sooner where the limit is near:
a write for each request would cost more than most requests do (an entry takes 1.6 ms on SQLite's disk here).
So of a burst over N processes some N fiftieths of the limit may pass beyond it.
"""

import math
import threading
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from generation.models import RequestCount

ENTERED_EVERY_SECONDS = 1.0
# Of the limit, the part that a process counts for itself.
PART = 50
# Users whose counts a process keeps; those of minutes that are over go when there are more.
MANY = 1000


class TooManyRequests(APIException):
    status_code = status.HTTP_429_TOO_MANY_REQUESTS

    def __init__(self, limit: int, wait: float) -> None:
        self.wait = max(1, math.ceil(wait))
        again = f"Try again in {self.wait} s."
        super().__init__(
            f"More than {limit:,} requests in this minute, which are allowed. {again}", "throttled"
        )
        self.numbers = {"limit": limit}


@dataclass
class _Count:
    """``entered``: by all processes, as known; ``since``: counted here, and not entered."""

    minute: int
    entered: int = 0
    since: int = 0
    entered_at: float = 0.0


class PerUser(BaseThrottle):
    _counts: ClassVar[dict[int, _Count]] = {}
    _lock: ClassVar = threading.Lock()

    def allow_request(self, request: Request, view: Any) -> bool:
        """Raises TooManyRequests, rather than answer in DRF's words."""
        limit = settings.FLUXSITE_REQUESTS_A_MINUTE
        if not limit or not request.user.is_authenticated:
            return True
        now = time.time()
        minute, second = divmod(now, 60)
        count, entry = self._counted(request.user.pk, int(minute), limit)
        if entry:
            count.entered = RequestCount.add(request.user, int(minute), entry)
        if count.entered + count.since > limit:
            raise TooManyRequests(limit, 60 - second)
        return True

    def _counted(self, user: int, minute: int, limit: int) -> tuple[_Count, int]:
        """The user's count with this request in it, and how many are to be entered now."""
        with self._lock:
            count = self._counts.get(user)
            if count is None or count.minute != minute:
                count = self._counts[user] = _Count(minute, entered_at=time.monotonic())
                self._forget(minute)
            count.since += 1
            is_due = count.since > limit // PART
            if not is_due and time.monotonic() - count.entered_at < ENTERED_EVERY_SECONDS:
                return count, 0
            entry, count.since, count.entered_at = count.since, 0, time.monotonic()
            return count, entry

    def _forget(self, minute: int) -> None:
        if len(self._counts) > MANY:
            over = [user for user, count in self._counts.items() if count.minute != minute]
            for user in over:
                del self._counts[user]
