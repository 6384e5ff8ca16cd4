"""A file on its way into the library: bounded and paid for as it comes; whole at its name, or gone.

Nothing of what the client calls the file reaches the disk: drafts are named by us, and files by their hash.
"""

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import PurePath
from typing import IO, Any, Self

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from rest_framework import status
from rest_framework.exceptions import APIException

from accounts.models import User
from files import storage
from files.bodies import ENVELOPE
from gpu.model_card import ModelCard
from loras import inspection, library
from loras.inspection import Inspection
from loras.models import Lora, Upload
from loras.signals import lora_admitted, storage_wanted


class TooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class NoRoom(APIException):
    status_code = status.HTTP_507_INSUFFICIENT_STORAGE
    default_code = "disk_full"


class NotAdmitted(APIException):
    """The file would not work here; ``facts`` say what it is."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "not_admitted"

    def __init__(self, facts: Inspection) -> None:
        super().__init__({"file": [facts.reason]})
        self.facts = facts


class GivenUp(APIException):
    """Somebody else deleted what had come: it took too long, or the account was closed meanwhile."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "upload_given_up"
    default_detail = "The upload was given up: it took too long, or the account was closed. Send it again."


# Much shorter than ``loras.models.UPLOAD_LEASE``.
RENEWED_EACH_SECONDS = 10.0


def largest_file() -> int:
    """The largest LoRA file that is taken, in bytes."""
    return int(settings.FLUXSITE_LORA_MAX_MB) * 10**6


class Incoming:
    """Use as a context: what was not kept when it ends is removed, and so is the reservation."""

    def __init__(self, owner: User, announced: int) -> None:
        """``announced``: bytes, of which the room is reserved; no more are taken.

        Raises TooLarge, NoRoom, or what a receiver of ``storage_wanted`` raises.
        """
        self.owner = owner
        self.limit = min(announced, largest_file())
        self.size = 0
        self.renewed_at = time.monotonic()
        if announced > largest_file() + ENVELOPE:
            raise TooLarge(_too_large(announced))
        storage.drafts.mkdir(parents=True, exist_ok=True)
        with transaction.atomic():
            _take_turn()
            # What is reserved and not written yet is not free, though the disk says so.
            _check_room(announced + Upload.objects.alive().awaited(settings.FLUXSITE_HOST))
            storage_wanted.send(Upload, owner=owner, size=announced)
            self.reserved = Upload.objects.create(owner=owner, size=announced, host=settings.FLUXSITE_HOST)
            self.path = library.draft_of(self.reserved)
            self.file: IO[bytes] = self.path.open("xb")

    def write(self, chunk: bytes) -> None:
        """Raises TooLarge where more comes than was announced, NoRoom where the disk is full, and GivenUp."""
        self.size += len(chunk)
        if self.size > self.limit:
            raise TooLarge(_too_large(self.size))
        _check_room(len(chunk))
        if time.monotonic() - self.renewed_at > RENEWED_EACH_SECONDS:
            self._renew()
        try:
            self.file.write(chunk)
            self.file.flush()
        except OSError as error:
            raise NoRoom(f"The file could not be stored: {error.strerror}.") from error

    def _renew(self) -> None:
        """Keep the reservation, which a process that was killed loses."""
        self.renewed_at = time.monotonic()
        mine = Upload.objects.filter(pk=self.reserved.pk)
        if not mine.update(renewed_at=Now(), written=self.size):
            raise GivenUp

    def discard(self) -> None:
        """May be called again, and after ``keep``."""
        with suppress(OSError):  # what a full disk did not take is not wanted
            self.file.close()
        self.path.unlink(missing_ok=True)
        Upload.objects.filter(pk=self.reserved.pk).delete()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def inspect(self) -> Inspection:
        """The facts of what has come, which is all of it. Raises GivenUp."""
        card = ModelCard.of(settings.FLUXSITE_MODEL)
        try:
            return inspection.inspect(self.path, card.family, card.name)
        except FileNotFoundError as error:
            raise GivenUp from error

    def keep(self, facts: Inspection, **fields: Any) -> Lora:
        """Put it into the library. Raises NotAdmitted."""
        if not facts.admissible:
            raise NotAdmitted(facts)
        os.fsync(self.file.fileno())
        with transaction.atomic():
            library.lock_bytes(facts.sha256)
            # As a whole: what is there may be older, and damaged since.
            storage.adopt(self.path, name := library.name_of(facts.sha256))
            lora = Lora.objects.create(
                owner=self.owner, slug=Lora.objects.new_slug(fields["name"]), file=name,
                sha256=facts.sha256, size=facts.size, family=facts.family, facts=asdict(facts),
                **fields,
            )  # fmt: skip
            lora_admitted.send(Lora, lora=lora)
            lora.refresh_from_db()  # where there is nothing to try it on it is ready already
        return lora


def _take_turn() -> None:
    """Until the transaction ends nobody else reserves room. On SQLite transactions are alone anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('uploads'), 0)")


def _check_room(wanted: int) -> None:
    """Raises NoRoom where so many bytes more would leave less than FLUXSITE_DISK_FLOOR_MB."""
    free, floor = shutil.disk_usage(storage.drafts).free, settings.FLUXSITE_DISK_FLOOR_MB * 10**6
    if free - wanted < floor:
        raise NoRoom(
            f"The disk has {free / 1e9:.1f} GB left and {floor / 1e9:.1f} GB of it are kept free, besides "
            "what uploads under way still need. Ask who runs the studio for room."
        )


def receive(owner: User, chunks: Iterable[bytes], announced: int) -> Incoming:
    """All of it written; the caller's to use as a context."""
    incoming = Incoming(owner, announced)
    try:
        for chunk in chunks:
            incoming.write(chunk)
    except BaseException:
        incoming.discard()
        raise
    return incoming


def _too_large(size: int) -> str:
    return f"The file has {size / 1e6:,.0f} MB or more; {settings.FLUXSITE_LORA_MAX_MB:,} MB are allowed."


def name_of(facts: Inspection, file_name: str) -> str:
    """What to call a LoRA of which nobody said: by its own title, or else by its file."""
    return (facts.title or PurePath(file_name).stem or "LoRA")[:120]
