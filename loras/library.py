"""The files of the library: each named by its hash, kept once, and for as long as a row needs it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.db import connection, transaction
from uuid_utils.compat import uuid7

from files import storage
from files.storage import Damaged
from gpu.model_card import ModelCard
from loras import inspection
from loras.models import Lora, SeededLora, Upload

DEMO_LORAS = Path(settings.BASE_DIR) / "demo" / "loras"


def add_demo_loras() -> list[Lora]:
    """Put the demo model's own LoRAs into the library, for everyone: each once in the life of a studio.

    What an administrator changed or deleted since then stays so, and an address that somebody else's LoRA has
    is left to it. Returns those that are in the library.
    """
    entries: list[dict[str, Any]] = json.loads((DEMO_LORAS / "loras.json").read_text())
    return [lora for entry in entries if (lora := _add_demo_lora(entry))]


@transaction.atomic
def _add_demo_lora(entry: dict[str, Any]) -> Lora | None:
    path = DEMO_LORAS / entry["file"]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    lock_bytes(sha256)
    there = Lora.objects.filter(slug=entry["slug"]).first()
    _, is_first = SeededLora.objects.get_or_create(slug=entry["slug"])
    if there or not is_first:
        return there
    facts = asdict(inspection.inspect(path, "demo", "the demo model"))
    return Lora.objects.create(
        slug=entry["slug"], name=entry["name"], description=entry["description"],
        trigger_words=entry["trigger_words"], recommended_weight=entry["recommended_weight"],
        file=store(path, sha256), sha256=sha256, size=path.stat().st_size, family="demo", facts=facts,
        state=Lora.State.READY, visibility=Lora.Visibility.EVERYONE,
    )  # fmt: skip


def store(path: Path, sha256: str) -> str:
    """Copy a file to its place in the library, which its hash names; the same bytes are kept once."""
    name = name_of(sha256)
    if storage.exists(name):
        return name
    with path.open("rb") as file:
        return storage.save(name, File(file))


def name_of(sha256: str) -> str:
    """Where in the storage the file of this hash is."""
    return f"loras/{sha256[:2]}/{sha256}.safetensors"


def inspect_again(lora: Lora) -> str:
    """Look into the file once more and keep the facts. A sentence of what is wrong with it, or nothing."""
    card = ModelCard.of(settings.FLUXSITE_MODEL)
    try:
        facts = inspection.inspect(storage.local(str(lora.file), lora.sha256), card.family, card.name)
    except FileNotFoundError:
        reason = "Its file is missing"
    except Damaged:
        reason = "Its file was changed after it was uploaded"
    else:
        reason = "" if facts.admissible else facts.reason
        if facts.sha256 != lora.sha256:
            reason = "Its file was changed after it was uploaded"
        else:
            lora.facts = asdict(facts)
    if reason:
        lora.state, lora.reason = Lora.State.REFUSED, reason
    # Nothing, if it is deleted meanwhile: reading a file takes a while.
    Lora.objects.filter(pk=lora.pk).update(facts=lora.facts, state=lora.state, reason=lora.reason)
    return reason


def set_preview(lora: Lora, preview: ContentFile[bytes], without: ContentFile[bytes] | None = None) -> None:
    """Show the LoRA by this WebP, and beside it the same drawn without the LoRA, where there is one."""
    old = [str(lora.preview), str(lora.preview_without)]
    folder = f"previews/{lora.pk}"
    lora.preview = storage.save(f"{folder}/{uuid7()}.webp", preview)
    lora.preview_without = storage.save(f"{folder}/{uuid7()}.webp", without) if without else ""
    lora.save(update_fields=["preview", "preview_without"])
    _delete_files(old)


def _delete_files(names: Iterable[str]) -> None:
    for name in filter(None, names):
        storage.delete(name)


def delete(lora: Lora) -> None:
    """Delete previews, the bytes if no other row needs them, and the row.

    Whoever is killed in between leaves a row, not a file that nobody knows of: it can be deleted again.
    """
    with transaction.atomic():
        lock_bytes(lora.sha256)
        _delete_files([str(lora.preview), str(lora.preview_without)])
        if not Lora.objects.filter(sha256=lora.sha256).exclude(pk=lora.pk).exists():
            storage.delete(str(lora.file))
        lora.delete()


def delete_uploads(uploads: Iterable[Upload]) -> None:
    for upload in uploads:
        draft_of(upload).unlink(missing_ok=True)
        upload.delete()


def draft_of(upload: Upload) -> Path:
    """Where an upload lies until it is kept: on the web host that takes it."""
    return storage.drafts / f"{upload.pk}.part"


def lock_bytes(sha256: str) -> None:
    """Until the transaction ends nobody else stores or deletes the file of this hash.

    SQLite has one writer at a time anyway, as transactions there are IMMEDIATE.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int(sha256[:15], 16)])
