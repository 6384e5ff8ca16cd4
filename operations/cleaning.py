"""The cleanup: chooses what the policy says, and deletes it one by one, so that killing it loses nothing."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from operations import leftovers, policy, studio
from operations.leftovers import Leftover, TooManyOrphans
from operations.models import Cleanup, Kind
from operations.policy import Limits

log = logging.getLogger(__name__)

# Of what former cleanups did.
CLEANUPS_KEPT = 400
Shown = Callable[[Kind, list[Leftover]], Iterable[Leftover]]


@dataclass
class Tally:
    """Of one kind: how many went, how many bytes that freed, and what could not go."""

    count: int = 0
    bytes: int = 0
    failed: list[str] = field(default_factory=list)


def chosen(kind: Kind, limits: Limits, all_orphans: bool = False) -> Iterator[Leftover]:
    """What is to go: what is too old, and of the rest the oldest while there is too much.

    Raises TooManyOrphans, unless ``all_orphans``.
    """
    if not limits.on:
        return
    there = leftovers.oldest_first(kind, all_orphans=all_orphans)
    over = sum(one.size for one in there) - limits.megabytes * 10**6 if limits.megabytes is not None else 0
    latest = timezone.now() - timedelta(days=limits.days) if limits.days is not None else None
    for one in there:
        if not (latest and one.when < latest) and over <= 0:
            return
        over -= one.size
        yield one


def plan(*, all_orphans: bool = False) -> dict[Kind, Tally]:
    """What a cleanup would delete now. Raises ForeignFiles."""
    studio.confirm()
    return {kind: _planned(kind, limits, all_orphans) for kind, limits in policy.now_in_force().items()}


def _planned(kind: Kind, limits: Limits, all_orphans: bool) -> Tally:
    try:
        ones = list(chosen(kind, limits, all_orphans))
    except TooManyOrphans as error:
        return Tally(failed=[str(error)])
    return Tally(len(ones), sum(one.size for one in ones if one.frees))


def clean(shown: Shown = lambda kind, ones: ones, *, all_orphans: bool = False) -> dict[Kind, Tally]:
    """Delete what the policy says, and keep a record. What cannot be deleted is reported; the rest goes on.

    ``shown`` is given what will go of a kind, and goes through it: for a progress bar. Raises ForeignFiles
    where the database and the storage are not of one studio; then nothing is deleted.
    """
    studio.confirm()
    record = Cleanup.objects.create(host=settings.FLUXSITE_HOST)
    tallies = {
        kind: _clean(kind, limits, shown, all_orphans) for kind, limits in policy.now_in_force().items()
    }
    errors = [f"{kind}: {tally.failed[0]}" for kind, tally in tallies.items() if tally.failed]
    Cleanup.objects.filter(pk=record.pk).update(
        finished_at=Now(), deleted=sum(tally.count for tally in tallies.values()),
        bytes=sum(tally.bytes for tally in tallies.values()), error="; ".join(errors),
        by_kind={kind: [tally.count, tally.bytes] for kind, tally in tallies.items() if tally.count},
    )  # fmt: skip
    kept = Cleanup.objects.values_list("pk", flat=True)[:CLEANUPS_KEPT]
    Cleanup.objects.exclude(pk__in=list(kept)).delete()
    return tallies


def _clean(kind: Kind, limits: Limits, shown: Shown, all_orphans: bool) -> Tally:
    tally = Tally()
    try:
        for one in shown(kind, list(chosen(kind, limits, all_orphans))):
            _delete(one, tally)
    except TooManyOrphans as error:
        log.error("%s", error)
        tally.failed.append(str(error))
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
    tally.bytes += one.size if gone and one.frees else 0
