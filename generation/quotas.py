"""What people may use: checked in the transaction that submits a job, and shown by pages and API."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.formats import date_format
from rest_framework import status
from rest_framework.exceptions import APIException

from accounts.models import Quota, UsageEntry, User
from generation import forecast
from generation.models import Image, Job
from generation.words import duration
from gpu.models import Pool
from loras.models import Lora, Upload

# When a job ends nobody knows exactly; who was refused for want of room may ask again after this long.
TRY_AGAIN_SECONDS = 10


class TooMuch(APIException):
    """Nothing was queued. ``wait``: seconds until it is worth trying again (the header Retry-After)."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS

    def __init__(self, sentence: str, code: str, wait: float | None = None, **numbers: Any) -> None:
        super().__init__(sentence, code)
        self.wait = None if wait is None else max(1, math.ceil(wait))
        self.numbers = numbers


@dataclass(frozen=True)
class Balance:
    """What was used of one limit. ``limit``: None where there is none. Counts, seconds, or MB by name.

    ``reserved`` is what waiting and running jobs will use, as far as it is known.
    ``group``: who shares it; empty where it is the user's own.
    """

    name: str
    group: str
    used: float
    reserved: float
    limit: int | None
    resets_at: datetime | None = None

    @property
    def taken(self) -> float:
        return self.used + self.reserved

    def refusal(self, asked: float) -> TooMuch | None:
        """Why ``asked`` more is too much; None if it is not."""
        if self.limit is None or (self.taken + asked <= self.limit and self.taken < self.limit):
            return None
        sentence, wait = _SENTENCES[self.name](self, asked)
        numbers = {"limit": self.limit, "used": round(self.taken, 1), "asked": round(asked, 1)}
        return TooMuch(sentence, f"quota_{self.name}", wait, **numbers)


def balances(user: User) -> list[Balance]:
    """Each limit that holds for ``user``: the four of their own, and those of their groups that are set."""
    holding = Quota.objects.holding_for(user)
    own = next((quota for quota in holding if not quota.group), Quota())
    shared = [quota for quota in holding if quota.group]
    return [
        *(_balance(own, name, user) for name in Quota.LIMITS),
        *(_balance(quota, name, user) for quota in shared for name in _limited(quota)),
    ]


def check(job: Job, owner: User) -> None:
    """Raise TooMuch if ``job`` of ``owner``, not yet saved, must not be queued.

    Call it in the transaction that saves the job: it holds the rows that others would pass by, so that of
    ten jobs at once no more get in than there is room for.
    """
    _check_room(job)
    asked = {
        "images_a_day": job.count,
        "gpu_seconds_a_day": job.expected_seconds or 0.0,
        "pending_jobs": 1,
        "storage_mb": 0,
    }
    for quota in Quota.objects.holding_for(owner, lock=True):
        for name in _limited(quota):
            if refusal := _balance(quota, name, owner).refusal(asked[name]):
                raise refusal


def check_storage(sender: object, owner: User, size: int, **_: Any) -> None:
    """Raise TooMuch if ``owner`` has no room for ``size`` bytes more; in the transaction that keeps them."""
    for quota in Quota.objects.holding_for(owner, lock=True):
        if refusal := _balance(quota, "storage_mb", owner).refusal(size / 1e6):
            raise refusal


def _check_room(job: Job) -> None:
    limit = Pool.locked(job.engine).queue_limit
    waiting = Job.objects.queued(job.engine).count()
    if waiting >= limit:
        raise TooMuch(
            f"The queue of {job.engine.upper()} is full: {waiting} jobs wait, {limit} may. Try again soon.",
            "queue_full",
            forecast.usual_seconds(job.engine) or TRY_AGAIN_SECONDS,
            limit=limit,
            used=waiting,
        )


def _limited(quota: Quota) -> list[str]:
    return [name for name in Quota.LIMITS if getattr(quota, name) is not None]


def _balance(quota: Quota, name: str, user: User) -> Balance:
    used, reserved, daily = _COUNTS[name](quota, user)
    _, midnight = today()
    return Balance(
        name=name,
        group=quota.group.name if quota.group else "",
        used=used,
        reserved=reserved,
        limit=getattr(quota, name),
        resets_at=midnight if daily else None,
    )


def today() -> tuple[datetime, datetime]:
    """When this day began and when it ends, in the studio's time zone."""
    start = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    # Through the date, as a day with a change of the clocks is not 24 hours.
    end = timezone.make_aware(datetime.combine(start.date() + timedelta(days=1), datetime.min.time()))
    return start, end


Counted = tuple[float, float, bool]


def _images(quota: Quota, user: User) -> Counted:
    return _ledger(quota, user, "images"), _active(quota, user, Sum("count")), True


def _gpu_seconds(quota: Quota, user: User) -> Counted:
    return _ledger(quota, user, "gpu_seconds"), _active(quota, user, Sum("expected_seconds")), True


def _pending(quota: Quota, user: User) -> Counted:
    return _active(quota, user, Count("pk")), 0, False


def _storage(quota: Quota, user: User) -> Counted:
    images, loras, uploads = (
        rows.filter(quota.of(user, "owner")).aggregate(sum=Coalesce(Sum("size"), 0))["sum"] / 1e6
        for rows in (Image.objects, Lora.objects, Upload.objects.alive())
    )
    return images + loras, uploads, False


def _ledger(quota: Quota, user: User, what: str) -> float:
    entries = UsageEntry.objects.filter(quota.of(user, "user"), created_at__gte=today()[0])
    return float(entries.aggregate(sum=Sum(what))["sum"] or 0)


def _active(quota: Quota, user: User, sum_of: Any) -> float:
    jobs = Job.objects.active().filter(quota.of(user, "owner"))
    return float(jobs.aggregate(sum=sum_of)["sum"] or 0)


_COUNTS = {
    "images_a_day": _images,
    "gpu_seconds_a_day": _gpu_seconds,
    "pending_jobs": _pending,
    "storage_mb": _storage,
}


Sentence = tuple[str, float | None]


def _images_used_up(balance: Balance, asked: float) -> Sentence:
    limit, left = balance.limit or 0, max(0.0, (balance.limit or 0) - balance.taken)
    when, wait = _midnight(balance)
    if left:
        return (
            f"{left:g} of {_todays(balance)} {limit} pictures are left; this job asks for {asked:g}. {when}",
            wait,
        )
    return f"{_todays(balance).capitalize()} {limit} pictures are used. {when}", wait


def _gpu_seconds_used_up(balance: Balance, asked: float) -> Sentence:
    when, wait = _midnight(balance)
    whole = f"{_todays(balance)} {duration(balance.limit or 0)} of GPU time"
    taken = f"{duration(balance.taken)} of {whole} are taken"
    return f"{taken}; this job needs about {duration(asked)}. {when}", wait


def _pending_used_up(balance: Balance, asked: float) -> Sentence:
    of = f"The group {balance.group} has" if balance.group else "You have"
    many = f"{of} {balance.used:g} jobs in flight, of {balance.limit} allowed"
    return f"{many}. Wait for one, or cancel one.", TRY_AGAIN_SECONDS


def _storage_used_up(balance: Balance, asked: float) -> Sentence:
    of = f"the group {balance.group}" if balance.group else "your pictures and LoRAs"
    left = max(0, (balance.limit or 0) - balance.taken)
    if left:
        sentence = (
            f"{left:,.0f} of the {balance.limit:,} MB for {of} are left, and this takes {asked:,.0f} MB."
        )
    else:
        sentence = f"The {balance.limit:,} MB for {of} are full: {balance.used:,.0f} MB are kept."
    return f"{sentence} Delete some first.", None


def _todays(balance: Balance) -> str:
    return f"today's, shared by {balance.group}," if balance.group else "today's"


def _midnight(balance: Balance) -> tuple[str, float]:
    """When there is more, in words and in seconds."""
    midnight = today()[1]
    wait = (midnight - timezone.now()).total_seconds()
    return f"More at {date_format(midnight, 'H:i')}, in {duration(wait)}.", wait


_SENTENCES = {
    "images_a_day": _images_used_up,
    "gpu_seconds_a_day": _gpu_seconds_used_up,
    "pending_jobs": _pending_used_up,
    "storage_mb": _storage_used_up,
}
