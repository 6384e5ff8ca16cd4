"""Files that no row names, kept for a while before they are deleted.

    quarantine/images/2026/12/01/….png

A file that a row names again, because another database was restored, can be brought back until then.
"""

import hashlib
import re

from django.core.files.base import File
from django.db import transaction

from files import storage
from loras import library
from operations import leftovers

FOLDER = "quarantine"
# Release 0.1 moved files here, and never deleted them.
_PLACES = (FOLDER, "aside")
_OF_A_LORA = re.compile(r"loras/[0-9a-f]{2}/([0-9a-f]{64})\.safetensors")
GONE = "gone meanwhile"


def move(name: str) -> str:
    """Move a file of the storage here; returns what was done, in a few words.

    The file is copied first: it may be large, and whoever stores a LoRA waits while its bytes are locked.
    """
    try:
        kept = _copied(name)
    except FileNotFoundError:
        return GONE
    with transaction.atomic():
        if found := _OF_A_LORA.fullmatch(name):
            library.lock_bytes(found[1])
        in_use = leftovers.is_named(name)
        storage.delete(kept if in_use else name)
    return "came into use meanwhile" if in_use else f"moved to {kept}"


def _copied(name: str) -> str:
    """Copy a file here, unless a move that was killed has done so; returns its name here."""
    kept = f"{FOLDER}/{name}"
    with storage.open(name) as file:
        return kept if storage.exists(kept) else storage.save(kept, File(file))


def bring_back(name: str, sha256: str = "") -> bool:
    """Put a file that a row misses back; False where it is not here, or its hash is not ``sha256``."""
    for place in _PLACES:
        kept = f"{place}/{name}"
        try:
            with storage.open(kept) as file:
                if sha256 and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    continue
                file.seek(0)
                storage.save(name, File(file))
        except FileNotFoundError:
            continue
        storage.delete(kept)
        return True
    return False
