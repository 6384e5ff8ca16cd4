"""What the gallery shows around its pictures: days, counts, chips and menus."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format

from accounts.models import User
from generation.gallery_filters import Filters, moment_of_day
from generation.models import Collection, Image, ImageQuerySet
from generation.moments import made_at
from gpu.engines import ENGINES
from loras.models import Lora

PAGE = 60
# Counting goes so far: all 1,284 are counted as such, a million as "5,000+".
MOST_IN_ALL = 5_000
MOST_FOUND = 1_000
# Of a menu; what is not in it is found by its own page.
MOST_OPTIONS = 40
# What a tile shows, and nothing more.
COLUMNS = ("moment", "seed", "width", "height", "size", "favourite", "job__prompt", "job__engine")


@dataclass(frozen=True)
class Option:
    """A link that changes one filter."""

    label: str
    url: str


@dataclass(frozen=True)
class Menu:
    name: str
    options: list[Option]


@dataclass(frozen=True)
class Day:
    """Pictures of one day. ``count``: of all of that day, of which the page may show a part."""

    day: date
    images: list[Image]
    count: str


def of(user: User, filters: Filters, before: int | None) -> dict[str, Any]:
    """The template's context, by a number of queries that does not depend on how many pictures there are."""
    found = filters.images(user)
    page = found.before(before) if before is not None else found
    shown = list(page.select_related("job").only(*COLUMNS)[: PAGE + 1])
    collections = list(Collection.objects.visible_to(user)[:MOST_OPTIONS])
    more = shown[PAGE - 1].place if len(shown) > PAGE else None  # type: ignore[attr-defined]
    return {
        "filters": filters,
        "first": before is None,
        "days": list(_days(found, shown[:PAGE], cut=(before is not None, more is not None))),
        "unfiltered": Filters(trash=filters.trash).url(),
        "more": None if more is None else _with_before(filters.url(), more),
        "total": _total(user, filters, found if more is not None or before is not None else shown),
        "chips": list(_chips(filters)),
        "menus": list(_menus(user, filters, collections)),
        "collections": collections,
        "newest": filters.url(),
        "favourites": filters.url(favourite=not filters.favourite),
    }


def _with_before(url: str, place: int) -> str:
    return f"{url}{'&' if '?' in url else '?'}before={place}"


# Counts -----------------------------------------------------------------------------------------------


def _total(user: User, filters: Filters, found: ImageQuerySet | list[Image]) -> str:
    """86 of 1,284. ``found``: all of them as a list, where one page shows all."""
    if not filters:
        return counted(found, MOST_IN_ALL)
    in_all = counted(Filters(trash=filters.trash).images(user), MOST_IN_ALL)
    return f"{counted(found, MOST_FOUND)} of {in_all}"


def counted(images: ImageQuerySet | list[Image], most: int) -> str:
    """How many: 1,284, or 5,000+."""
    count = len(images) if isinstance(images, list) else images.count_to(most + 1)
    return f"{count:,}" if count <= most else f"{most:,}+"


def _days(found: ImageQuerySet, shown: list[Image], cut: tuple[bool, bool]) -> Iterator[Day]:
    """The pictures by day. Only a day at a ``cut`` end of the page may have more than the page shows."""
    days = [(day, list(images)) for day, images in groupby(shown, _day_of)]
    for number, (day, images) in enumerate(days):
        is_cut = (number == 0 and cut[0]) or (number == len(days) - 1 and cut[1])
        count = counted(_on(found, day), MOST_FOUND) if is_cut else f"{len(images):,}"
        yield Day(day, images, count)


def _day_of(image: Image) -> date:
    return timezone.localdate(made_at(image.moment))


def _on(found: ImageQuerySet, day: date) -> ImageQuerySet:
    return found.between(moment_of_day(day), moment_of_day(day + timedelta(days=1)))


# Chips and menus --------------------------------------------------------------------------------------


def _chips(filters: Filters) -> Iterator[Option]:
    """One for each filter that is on and has no control of its own; it leads to the page without it."""
    if filters.lora:
        yield Option(f"LoRA: {filters.lora.name}", filters.url(lora=None))
    if filters.engine:
        yield Option(filters.engine.upper(), filters.url(engine=""))
    if filters.seed is not None:
        yield Option(f"Seed {filters.seed}", filters.url(seed=None))
    if filters.since or filters.until:
        yield Option(_date_words(filters), filters.url(since=None, until=None))
    if filters.collection:
        yield Option(filters.collection.name, filters.url(collection=None))


def _date_words(filters: Filters) -> str:
    since, until = (day and date_format(day, "j M Y") for day in (filters.since, filters.until))
    if since == until:
        return str(since)
    if not since:
        return f"Until {until}"
    return f"{since} – {until}" if until else f"Since {since}"


def _menus(user: User, filters: Filters, collections: list[Collection]) -> Iterator[Menu]:
    """One for each filter that is off; a chip stands in its place where it is on."""
    if not filters.engine:
        yield Menu("Engine", [Option(name.upper(), filters.url(engine=name)) for name in ENGINES])
    if not (filters.since or filters.until):
        yield Menu("Date", list(_dates(filters)))
    if not filters.collection:
        options = [Option(each.name, filters.url(collection=each)) for each in collections]
        yield Menu("Collection", options)
    if not filters.lora:
        visible = Lora.objects.visible_to(user).only("name", "slug").order_by("-uses", "name")
        yield Menu("LoRA", [Option(lora.name, filters.url(lora=lora)) for lora in visible[:MOST_OPTIONS]])


def _dates(filters: Filters) -> Iterator[Option]:
    today = timezone.localdate()
    yesterday = today - timedelta(days=1)
    yield Option("Today", filters.url(since=today))
    yield Option("Yesterday", filters.url(since=yesterday, until=yesterday))
    for days in (7, 30):
        yield Option(f"Last {days} days", filters.url(since=today - timedelta(days=days - 1)))
