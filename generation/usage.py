"""What people used, as the pages of accounts show it: meters, days, a row for each person, the ledger."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from accounts.models import UsageEntry, User
from generation import quotas
from generation.models import Image
from generation.quotas import Balance
from generation.words import clock, megabytes
from gpu.engines import ENGINES
from loras.models import Lora

DAYS = 14
# For the list of people.
RECENT_DAYS = 30
# The chart is so many units high, and each day of it so many wide.
CHART_HEIGHT, DAY_WIDTH, BAR_WIDTH = 100, 20, 18
# Read from the database at once; a long answer holds neither memory nor a transaction.
CHUNK = 2000


# Meters -----------------------------------------------------------------------------------------------


_LABELS = {
    "images_a_day": "Pictures",
    "gpu_seconds_a_day": "GPU time",
    "pending_jobs": "Jobs in flight",
    "storage_mb": "Storage",
}


@dataclass(frozen=True)
class Meter:
    """One limit, or the want of one, in words: ``value`` large, ``rest`` small beside it."""

    balance: Balance
    value: str
    rest: str

    @property
    def label(self) -> str:
        return _LABELS[self.balance.name]

    @property
    def is_tight(self) -> bool:
        limit = self.balance.limit
        return limit is not None and self.balance.taken >= 0.8 * limit

    @property
    def is_full(self) -> bool:
        limit = self.balance.limit
        return limit is not None and self.balance.taken >= limit


def meter(balance: Balance) -> Meter:
    taken, limit = balance.taken, balance.limit
    if balance.name == "storage_mb":
        value, _, unit = megabytes(taken).partition(" ")
        return Meter(balance, value, unit if limit is None else f"{unit} of {megabytes(limit)}")
    if balance.name == "gpu_seconds_a_day":
        return Meter(balance, clock(taken), "min" if limit is None else f"of {clock(limit)} min")
    return Meter(balance, f"{taken:,.0f}", "" if limit is None else f"of {limit:,}")


def meters(user: User) -> list[tuple[str, list[Meter]]]:
    """The user's own four, and those of each group that limits its members together."""
    found: dict[str, list[Meter]] = {}
    for balance in quotas.balances(user):
        found.setdefault(balance.group, []).append(meter(balance))
    return list(found.items())


def trash_bytes(user: User) -> int:
    return int(Image.objects.visible_to(user).trashed().aggregate(sum=Sum("size"))["sum"] or 0)


# Days -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    engine: str
    images: int
    x: int
    y: int
    height: int


@dataclass(frozen=True)
class Day:
    date: date
    bars: list[Bar]

    @property
    def images(self) -> int:
        return sum(bar.images for bar in self.bars)

    @property
    def is_today(self) -> bool:
        return self.date == timezone.localdate()


def chart(user: User) -> list[Day]:
    """Pictures of the last days by engine, the highest day filling it."""
    first = timezone.localdate() - timedelta(days=DAYS - 1)
    entries = UsageEntry.objects.filter(user=user, created_at__gte=_midnight(first))
    by_day = entries.annotate(day=TruncDate("created_at")).values_list("day", "engine")
    drawn = {(day, engine): images for day, engine, images in by_day.annotate(Sum("images"))}
    days = [first + timedelta(days=i) for i in range(DAYS)]
    most = max(sum(drawn.get((day, engine), 0) for engine in ENGINES) for day in days)
    return [_day(day, place, drawn, most or 1) for place, day in enumerate(days)]


def _day(day: date, place: int, drawn: dict[tuple[date, str], int], most: int) -> Day:
    bars, top = [], CHART_HEIGHT
    for engine in sorted(ENGINES, reverse=True):  # FP4 below
        images = drawn.get((day, engine), 0)
        height = max(1, round(images / most * CHART_HEIGHT)) if images else 0
        top = max(0, top - height)
        bars.append(Bar(engine, images, place * DAY_WIDTH, top, height))
    return Day(day, bars)


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


# People -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """``images`` and ``gpu_seconds``: of the last days; ``megabytes``: kept."""

    user: User
    images: int
    gpu_seconds: float
    megabytes: float

    @property
    def storage(self) -> str:
        return megabytes(self.megabytes)


def people(users: Iterable[User]) -> list[Person]:
    """What each of them used, in three queries."""
    users = list(users)
    recent = UsageEntry.objects.filter(
        user__in=users, created_at__gte=timezone.now() - timedelta(days=RECENT_DAYS)
    )
    sums = recent.values_list("user").annotate(Sum("images"), Sum("gpu_seconds"))
    used = {user: (images, seconds) for user, images, seconds in sums}
    kept: dict[int, int] = {}
    for rows in (Image.objects, Lora.objects):
        for owner, size in rows.filter(owner__in=users).order_by().values_list("owner").annotate(Sum("size")):
            kept[owner] = kept.get(owner, 0) + size
    return [Person(user, *used.get(user.pk, (0, 0.0)), kept.get(user.pk, 0) / 1e6) for user in users]


# The ledger -------------------------------------------------------------------------------------------

OUTCOMES = tuple(UsageEntry.Outcome.values)
SUMS = ("user", "jobs", "attempts", "images", "gpu_seconds", *OUTCOMES)
ENTRIES = (
    "time", "user", "job", "attempt", "engine", "worker", "outcome", "images", "gpu_seconds",
)  # fmt: skip


def ledger(first: date, last: date, group: Group | None = None) -> QuerySet[UsageEntry]:
    """The entries of these days, both included, of one group or of all."""
    days = Q(created_at__gte=_midnight(first), created_at__lt=_midnight(last + timedelta(days=1)))
    of_group = {"user__groups": group} if group else {}
    return UsageEntry.objects.filter(days, **of_group)


def sums(entries: QuerySet[UsageEntry]) -> list[dict[str, Any]]:
    """A row of ``SUMS`` for each user, who used most first."""
    outcomes: dict[str, Any] = {name: Count("pk", filter=Q(outcome=name)) for name in OUTCOMES}
    rows = entries.values("user__username").annotate(
        jobs=Count("job", distinct=True), attempts=Count("pk"), pictures=Sum("images"),
        seconds=Sum("gpu_seconds"), **outcomes,
    )  # fmt: skip
    found = [_named(dict(row)) for row in rows]
    return sorted(found, key=lambda row: (-row["gpu_seconds"], row["user"]))


def _named(row: dict[str, Any]) -> dict[str, Any]:
    user = row.pop("user__username") or "(the studio)"
    return {"user": user, "images": row.pop("pictures"), "gpu_seconds": row.pop("seconds"), **row}


def rows_of(entries: QuerySet[UsageEntry]) -> Iterator[list[Any]]:
    """A row of ``ENTRIES`` for each entry, the oldest first."""
    rows = entries.order_by("pk").values_list("pk", "created_at", "user__username", *ENTRIES[2:])
    rest = rows
    while chunk := list(rest[:CHUNK]):
        yield from (row for _, *row in chunk)
        rest = rows.filter(pk__gt=chunk[-1][0])
