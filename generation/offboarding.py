"""Somebody leaves: what they made goes to somebody else, or is deleted with its files.

First the account is closed, so that nothing more comes in. Then the work goes in batches, each of them whole
or not begun; the row of ``Offboarding`` remembers what is wanted, so that whoever is killed meanwhile is
followed by the housekeeping, or by the same command. The ledger stays.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q, Sum
from django.db.models.functions import Now

from accounts.models import ApiToken, Offboarding, User
from files import storage
from generation import search
from generation.models import Collection, Image, Job, ShareLink
from loras import library
from loras.models import Lora, Upload

log = logging.getLogger(__name__)

BATCH = 200
# How long the page that begins it works on it, and the housekeeping each minute: others wait meanwhile.
SECONDS_OF_A_PAGE = 2.0
SECONDS_OF_A_CHORE = 30.0
NAME_LENGTH = 80


class Refused(Exception):
    """It must not be. The text is a sentence for who asked."""


@dataclass(frozen=True)
class Belongings:
    """What somebody has. ``size``: bytes of pictures and LoRAs. ``shared``: LoRAs that others may use."""

    images: int
    size: int
    jobs: int
    active: int
    collections: int
    loras: int
    shared: int
    tokens: int
    links: int

    @property
    def megabytes(self) -> float:
        return self.size / 1e6

    @property
    def is_nothing(self) -> bool:
        return not (self.images or self.jobs or self.collections or self.loras)


def belongings(user: User) -> Belongings:
    images, loras = Image.objects.filter(owner=user), Lora.objects.filter(owner=user)
    return Belongings(
        images=images.count(),
        size=sum(rows.order_by().aggregate(sum=Sum("size"))["sum"] or 0 for rows in (images, loras)),
        jobs=Job.objects.filter(owner=user).count(),
        active=Job.objects.active().filter(owner=user).count(),
        collections=Collection.objects.filter(owner=user).count(),
        loras=loras.count(),
        shared=loras.exclude(visibility=Lora.Visibility.PRIVATE).count(),
        tokens=ApiToken.objects.filter(user=user).count(),
        links=ShareLink.objects.open().filter(owner=user).count(),
    )


def begin(user: User, to: User | None, by: User | None = None) -> Offboarding:
    """Close the account of ``user``, whose work is to go to ``to``, or to nobody: then it is deleted.

    May be asked again, with another choice too: that goes for what is left. Raises Refused, and
    LastAdministrator.
    """
    _check(user, to, by)
    with transaction.atomic():
        User.objects.switch_off(user)
        chosen = {"to": to, "by": by, "finished_at": None}
        offboarding, _ = Offboarding.objects.update_or_create(user=user, defaults=chosen)
    user.refresh_from_db()
    return offboarding


def _check(user: User, to: User | None, by: User | None) -> None:
    if by == user:
        raise Refused("Nobody offboards themselves. Ask another administrator.")
    if by and user.is_superuser and not by.is_superuser:
        raise Refused(f"{user} may do everything here. Only somebody else who may can offboard them.")
    if to == user:
        raise Refused(f"The work is {user}'s already. Choose somebody else.")
    if to and not to.is_active:
        raise Refused(f"{to} is switched off. Choose somebody who can log in.")


def go_on_with_all(seconds: float = SECONDS_OF_A_CHORE) -> str:
    """What is not over, for so long; the housekeeping asks each minute.

    Also where something came in after the end: a request that was under way when the account was closed.
    """
    wanted = Offboarding.objects.filter(Q(finished_at=None) | _something_left(), user__is_active=False)
    rows = list(wanted.select_related("user", "to").order_by("begun_at"))
    done = [tried(row, seconds / len(rows)) for row in rows]
    return f"{sum(done)} of {len(done)} done"


def tried(offboarding: Offboarding, seconds: float) -> bool:
    """``go_on`` for the housekeeping, and for a page: what goes wrong is logged, and tried again."""
    try:
        return go_on(offboarding, seconds)
    except Exception:
        log.exception("The %s could not go on; it is tried again", offboarding)
        return False


def go_on(offboarding: Offboarding, seconds: float) -> bool:
    """Work on it for about so long, a batch at least. Returns whether it is over."""
    end = time.monotonic() + seconds
    user, to = offboarding.user, offboarding.to
    if not _stopped(user) or (to and not to.is_active):
        return False
    steps = _transfer(offboarding, to) if to else _purge(offboarding)
    try:
        for step in steps:
            while step():
                if time.monotonic() >= end:
                    return False
    except _ChosenAnew:
        return False
    if Offboarding.objects.filter(_something_left(), pk=user.pk).exists():
        return False
    return _finish(offboarding)


def _finish(offboarding: Offboarding) -> bool:
    try:
        with transaction.atomic():
            _lock_choice(offboarding)
            if not offboarding.to_id:
                _forget(offboarding.user)
            Offboarding.objects.filter(pk=offboarding.pk, finished_at=None).update(finished_at=Now())
    except _ChosenAnew:
        return False
    return True


def _something_left() -> Q:
    """Of an offboarding: whether something belongs to who leaves, or is being uploaded by them."""
    owned: tuple[Any, ...] = (Job, Image, Collection, Lora, Upload)
    return reduce(or_, (Q(Exists(each.objects.filter(owner=OuterRef("user")))) for each in owned))


def _stopped(user: User) -> bool:
    """End the user's jobs and links; whether nothing of theirs is being drawn any more."""
    ShareLink.objects.filter(owner=user).revoke()
    for job in Job.objects.active().filter(owner=user):
        job.cancel()
    return not Job.objects.active().filter(owner=user).exists()


# Each step leaves what is still being drawn: a worker would store its pictures for the owner whom it knows.
Step = Callable[[], bool]


class _ChosenAnew(Exception):
    """Meanwhile somebody chose another receiver, or switched the account on again."""


def _batch(
    offboarding: Offboarding,
    rows: models.QuerySet[Any],
    change: Callable[[models.QuerySet[Any]], object],
) -> Step:
    """A step that takes some of ``rows`` at each call, and returns whether there were any.

    ``change`` must make them fewer. The step raises _ChosenAnew, and changes nothing, once the row of the
    offboarding no longer says what it said when the work began: a purge must not delete what somebody has
    just decided to hand over.
    """

    def step() -> bool:
        with transaction.atomic():
            _lock_choice(offboarding)
            keys = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
            if keys:
                change(rows.filter(pk__in=keys))
        return bool(keys)

    return step


def _lock_choice(offboarding: Offboarding) -> None:
    """Hold the choice until the transaction ends. Raises _ChosenAnew if it is another one now."""
    same = Offboarding.objects.filter(pk=offboarding.pk, to=offboarding.to_id)
    closed = User.objects.filter(pk=offboarding.pk, is_active=False)
    if not (same.select_for_update(of=("self",)) and closed.select_for_update(of=("self",), no_key=True)):
        raise _ChosenAnew


def _count(offboarding: Offboarding, images: int = 0, freed: int = 0) -> None:
    """In the transaction of a batch, so that no kill makes it wrong."""
    row = Offboarding.objects.filter(pk=offboarding.pk)
    row.update(images=F("images") + images, freed=F("freed") + freed)


# To somebody else -------------------------------------------------------------------------------------


def _transfer(offboarding: Offboarding, to: User) -> list[Step]:
    user = offboarding.user
    mine = {"owner": user}

    def hand_over(images: models.QuerySet[Any]) -> None:
        facts = search.facts_for(user.pk, to.pk)
        _count(offboarding, images=images.update(owner=to, facts=facts))

    def give(jobs: models.QuerySet[Any]) -> None:
        # Not the keys: they are the leaver's requests, and ``to`` may have sent the same ones.
        jobs.update(owner=to, idempotency_key=None, request_hash="")

    def rename(collections: models.QuerySet[Any]) -> None:
        for collection in collections:
            name = _free_name(collection.name, user, to)
            Collection.objects.filter(pk=collection.pk).update(owner=to, name=name)

    return [
        _batch(offboarding, Job.objects.filter(**mine, state__in=Job.FINAL), give),
        _batch(offboarding, Image.objects.filter(**mine), hand_over),
        _batch(offboarding, Collection.objects.filter(**mine), rename),
        _batch(offboarding, Upload.objects.filter(**mine), library.delete_uploads),
        _batch(offboarding, Lora.objects.filter(**mine), lambda loras: loras.update(owner=to)),
    ]


def _free_name(name: str, user: User, to: User) -> str:
    """The name of a collection, with whose it was where ``to`` has one of this name."""
    taken = set(Collection.objects.filter(owner=to).values_list("name", flat=True))
    free, number = name, 1
    while free in taken:
        whose = f" ({user})" if number == 1 else f" ({user} {number})"
        free, number = name[: NAME_LENGTH - len(whose)] + whose, number + 1
    return free


# To nobody --------------------------------------------------------------------------------------------


def _purge(offboarding: Offboarding) -> list[Step]:
    user = offboarding.user
    mine = {"owner": user}

    def delete_images(images: models.QuerySet[Any]) -> None:
        # The files first: whoever is killed in between leaves rows, and those are found again. A backup
        # that misses a file waits for the rows.
        found = list(images.select_for_update())
        for image in found:
            storage.delete(str(image.file))
            storage.delete(str(image.thumbnail))
        _count(offboarding, len(found), sum(image.size for image in found))
        images.delete()

    def delete_loras(loras: models.QuerySet[Any]) -> None:
        for lora in loras:
            others = Lora.objects.filter(sha256=lora.sha256).exclude(pk=lora.pk)
            _count(offboarding, freed=0 if others.exists() else lora.size)
            library.delete(lora)

    def delete(rows: models.QuerySet[Any]) -> None:
        rows.delete()

    return [
        _batch(offboarding, ShareLink.objects.filter(**mine), delete),
        _batch(offboarding, Image.objects.filter(**mine), delete_images),
        _batch(offboarding, Job.objects.filter(**mine, state__in=Job.FINAL), delete),
        _batch(offboarding, Collection.objects.filter(**mine), delete),
        _batch(offboarding, Upload.objects.filter(**mine), library.delete_uploads),
        _batch(offboarding, Lora.objects.filter(**mine), delete_loras),
    ]


def _forget(user: User) -> None:
    """Their name too, where others read it."""
    User.objects.anonymise(user)
    user.refresh_from_db()
    person = ContentType.objects.get_for_model(User)
    LogEntry.objects.filter(content_type=person, object_id=str(user.pk)).update(object_repr=user.username)
