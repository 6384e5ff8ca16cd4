"""The cleanup: chooses what the policy says, and deletes it one by one, so that killing it loses nothing."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from operations import leftovers, policy
from operations.leftovers import Leftover
from operations.models import Cleanup, Kind
from operations.policy import Limits

log = logging.getLogger(__name__)

# Of what former cleanups did.
CLEANUPS_KEPT = 400
Shown = Callable[[Kind, list[Leftover]], Iterable[Leftover]]


@dataclass
class Tally:
    """Of one kind: how many went, of how many bytes, and what could not."""

    count: int = 0
    bytes: int = 0
    failed: list[str] = field(default_factory=list)


def chosen(kind: Kind, limits: Limits) -> Iterator[Leftover]:
    """What is to go: what is too old, and of the rest the oldest while there is too much."""
    if not limits.on:
        return
    there = leftovers.oldest_first(kind)
    over = sum(one.size for one in there) - limits.megabytes * 10**6 if limits.megabytes is not None else 0
    latest = timezone.now() - timedelta(days=limits.days) if limits.days is not None else None
    for one in there:
        if not (latest and one.when < latest) and over <= 0:
            return
        over -= one.size
        yield one


def plan() -> dict[Kind, Tally]:
    """What a cleanup would delete now."""
    found = {kind: list(chosen(kind, limits)) for kind, limits in policy.now_in_force().items()}
    return {kind: Tally(len(ones), sum(one.size for one in ones)) for kind, ones in found.items()}


def clean(shown: Shown = lambda kind, ones: ones) -> dict[Kind, Tally]:
    """Delete it, and keep a record. What cannot be deleted is told and does not stop the rest.

    ``shown`` is given what will go of a kind, and goes through it: for a progress bar.
    """
    record = Cleanup.objects.create(host=settings.FLUXSITE_HOST)
    tallies = {kind: _clean(kind, limits, shown) for kind, limits in policy.now_in_force().items()}
    errors = [f"{kind}: {tally.failed[0]}" for kind, tally in tallies.items() if tally.failed]
    Cleanup.objects.filter(pk=record.pk).update(
        finished_at=Now(), deleted=sum(tally.count for tally in tallies.values()),
        bytes=sum(tally.bytes for tally in tallies.values()), error="; ".join(errors),
        by_kind={kind: [tally.count, tally.bytes] for kind, tally in tallies.items() if tally.count},
    )  # fmt: skip
    kept = Cleanup.objects.values_list("pk", flat=True)[:CLEANUPS_KEPT]
    Cleanup.objects.exclude(pk__in=list(kept)).delete()
    return tallies


def _clean(kind: Kind, limits: Limits, shown: Shown) -> Tally:
    tally = Tally()
    try:
        for one in shown(kind, list(chosen(kind, limits))):
            _delete(one, tally)
    except Exception as error:
        log.exception("The cleanup of %s was broken off", kind.label)
        tally.failed.append(f"broken off: {error}")
    if tally.count:
        log.info("Cleaned away: %d of %s, %d bytes", tally.count, kind.label, tally.bytes)
    return tally


def _delete(one: Leftover, tally: Tally) -> None:
    try:
        gone = one.delete()
    except OSError as error:
        log.warning("%s could not be deleted: %s", one.name, error)
        tally.failed.append(f"{one.name}: {error}")
        return
    tally.count += gone
    tally.bytes += one.size if gone else 0
