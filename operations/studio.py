"""Which studio the database and the storage belong to, so that neither deletes what the other one owns.

Both keep the id of their studio: the database in ``operations.Studio``, the storage in ``studio.json``.
Where the ids differ, no file is deleted, moved, backed up or restored.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from files import storage
from generation.models import Image
from loras.models import Lora
from operations.models import Studio

MARK = "studio.json"
# Folders whose files belong to rows.
FOLDERS = ("images", "previews", "loras")
# A confirmed answer is trusted for this long, in seconds; a deletion asks for each file.
TRUSTED_SECONDS = 60.0
# Rows whose files are looked for in a storage that has no id, such as one that release 0.1 filled.
SAMPLED = 50

# When a place was last found to be ours, and when that was last asked before a file was written.
_confirmed: dict[str, float] = {}
_asked: dict[str, float] = {}


@dataclass(frozen=True)
class Identity:
    """``stored`` is None where the storage has no id."""

    database: UUID
    stored: UUID | None


class ForeignFiles(OSError):
    """The storage belongs to another studio than the database, or to nobody that can be told."""

    def __init__(self, identity: Identity) -> None:
        owner = f"to the studio {identity.stored}" if identity.stored else "to no known studio"
        super().__init__(
            f"The files in {place()} belong {owner}; the database {database()} belongs to the studio "
            f"{identity.database}. Nothing was deleted, moved or copied. If FLUXSITE_DATABASE_URL, "
            "FLUXSITE_STORAGE_URL or FLUXSITE_DATA_DIR names the wrong place, correct it. If this database "
            "is to own these files from now on, run: manage.py studio adopt"
        )


def place() -> str:
    """Where the files are, in words and without secrets."""
    bucket = getattr(storage, "bucket_name", "")
    return f"the bucket {bucket}" if bucket else str(getattr(storage, "location", settings.MEDIA_ROOT))


def database() -> str:
    """Which database is used, in words and without secrets."""
    facts = connection.settings_dict
    return f"{facts['NAME']} on {facts['HOST']}" if facts.get("HOST") else str(facts["NAME"])


def identity() -> Identity:
    return Identity(Studio.current_id(), stored_id())


def stored_id() -> UUID | None:
    """The id in the storage; None where there is none. Raises OSError if it cannot be read."""
    try:
        with storage.open(MARK) as file:
            return UUID(json.load(file)["id"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise OSError(
            f"{MARK} in {place()} cannot be read: {error}. Run manage.py studio adopt to write it anew."
        ) from error


def confirm() -> None:
    """Make sure that the database and the storage belong together.

    A storage without an id is claimed if that is safe. Raises ForeignFiles.
    """
    known = identity()
    if known.stored is None and _may_claim():
        adopt()
        known = identity()
    if known.stored != known.database:
        _confirmed.clear()
        raise ForeignFiles(known)
    _confirmed[place()] = time.monotonic()


def claim_empty_storage(**kwargs: Any) -> None:
    """Receiver of ``files.signals.before_save``: the first file makes the storage this studio's.

    What is written has a name of its own, so it does no harm in another studio's storage.
    """
    if not _is_recent(_asked):
        _asked[place()] = time.monotonic()
        with suppress(OSError, DatabaseError, InterfaceError):
            confirm()


def keep_foreign_files(**kwargs: Any) -> None:
    """Receiver of ``files.signals.before_delete``: ``confirm``, whose answer is trusted for a while."""
    if not _is_recent(_confirmed):
        confirm()


def _is_recent(answers: dict[str, float]) -> bool:
    since = answers.get(place())
    return since is not None and time.monotonic() - since < TRUSTED_SECONDS


def adopt() -> None:
    """Write the database's id into the storage. From then on the database owns all files there."""
    write_id(Studio.current_id())


def write_id(studio: UUID) -> None:
    """Write an id into the storage, in the place of the one that is there."""
    storage.drafts.mkdir(parents=True, exist_ok=True)
    draft = storage.drafts / f"{MARK}.{uuid4()}"
    draft.write_text(json.dumps({"id": str(studio)}))
    storage.adopt(draft, MARK)


def _may_claim() -> bool:
    """Whether the storage is empty, or holds at least half of a sample of the files that rows name."""
    if not any(_any_file(folder) for folder in FOLDERS):
        return True
    named = list(_sample())
    return bool(named) and 2 * sum(storage.exists(name) for name in named) >= len(named)


def _any_file(folder: str) -> bool:
    with suppress(FileNotFoundError):
        folders, files = storage.listdir(folder)
        return any(files) or any(_any_file(f"{folder}/{below}") for below in folders)
    return False


def _sample() -> Iterator[str]:
    """Files of the oldest and the newest pictures and of some LoRAs."""
    yield from Image.objects.order_by("pk").values_list("file", flat=True)[:SAMPLED]
    yield from Image.objects.order_by("-pk").values_list("file", flat=True)[:SAMPLED]
    yield from Lora.objects.order_by("-pk").values_list("file", flat=True)[:SAMPLED]
