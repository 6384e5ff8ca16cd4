"""Whether rows and files agree, on a disk or in an S3 store."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.files.base import ContentFile
from django.utils import timezone

from files import storage
from generation.models import Image
from loras import library
from loras.models import Lora
from operations import leftovers, quarantine
from operations.models import Damage
from operations.quarantine import GONE

ORPHAN, MISSING, CHANGED = "orphan", "missing", "changed"
# Where rows name files. What lies beside may be another program's, or drafts, or the quarantine;
# hashes of models are looked at when a host fetches them.
FOLDERS = ("images", "previews", "loras")
_CHUNK = 2000


@dataclass(frozen=True)
class Named:
    """A file that a row names; ``sha256`` is empty where none is kept."""

    file: str
    model: type[Image] | type[Lora]
    row: UUID
    sha256: str = ""


@dataclass(frozen=True)
class Fault:
    """``named`` is None for a file that no row names."""

    what: str
    file: str
    named: Named | None = None


def named_files() -> Iterator[Named]:
    images = Image.objects.order_by("pk").values_list("pk", "file", "sha256", "thumbnail")
    for pk, file, sha256, thumbnail in images.iterator(_CHUNK):
        yield Named(file, Image, pk, sha256)
        yield Named(thumbnail, Image, pk)
    loras = Lora.objects.order_by("pk").values_list("pk", "file", "sha256", "preview", "preview_without")
    for pk, file, sha256, *previews in loras.iterator(_CHUNK):
        yield Named(file, Lora, pk, sha256)
        yield from (Named(preview, Lora, pk) for preview in previews if preview)


def fault_of(named: Named, with_hash: bool) -> Fault | None:
    """What is wrong with the file of a row; nothing is, if the row has gone meanwhile."""
    try:
        if with_hash and named.sha256:
            what = "" if _sha256(named.file) == named.sha256 else CHANGED
        else:
            what = "" if storage.exists(named.file) else MISSING
    except FileNotFoundError:
        what = MISSING
    is_there = what and named.model._default_manager.filter(pk=named.row).exists()
    return Fault(what, named.file, named) if is_there else None


def _sha256(name: str) -> str:
    digest = hashlib.sha256()
    with storage.open(name) as file:
        for chunk in file.chunks():
            digest.update(chunk)
    return digest.hexdigest()


def orphans() -> Iterator[Fault]:
    """Files that no row names, but for those that may be about to get one."""
    latest = timezone.now() - leftovers.safe_age()
    for name in (name for folder in FOLDERS for name in leftovers.orphans(folder)):
        try:
            is_old = storage.get_modified_time(name) < latest
        except FileNotFoundError:
            continue
        if is_old:
            yield Fault(ORPHAN, name)


def repair(fault: Fault) -> str:
    """Mend it if that can be, else mark the row; returns what was done, in a few words."""
    if fault.named is None:
        return quarantine.move(fault.file)
    if fault.what == MISSING and quarantine.bring_back(fault.file, fault.named.sha256):
        return "brought back from the quarantine"
    if fault.named.model is Image and not fault.named.sha256 and (drawn := _draw_thumbnail(fault.named)):
        return drawn
    row = fault.named.model._default_manager.filter(pk=fault.named.row).first()
    if row is None:
        return GONE
    facts = {"model": fault.named.model._meta.label, "row": fault.named.row, "what": fault.what}
    Damage.objects.update_or_create(file=fault.file, defaults=facts)
    if isinstance(row, Lora) and fault.named.sha256:
        library.inspect_again(row)
        return "marked; no job may use the LoRA"
    return "marked"


def _draw_thumbnail(named: Named) -> str:
    """A thumbnail is made of its picture, which may be there."""
    import PIL.Image

    from generation import pictures

    image = Image.objects.filter(pk=named.row).first()
    if image is None:
        return GONE
    try:
        with storage.open(str(image.file)) as file, PIL.Image.open(file) as picture:
            storage.save(named.file, ContentFile(pictures.thumbnail_bytes(picture)))
    except (OSError, SyntaxError):  # missing or damaged: Pillow raises either
        return ""
    return "made anew"


def forget_mended(faulty: set[str], with_hash: bool) -> int:
    """Take the marks from what is right again; without hashes nobody knows that of what was changed."""
    mended: Any = Damage.objects.exclude(file__in=faulty)
    if not with_hash:
        mended = mended.filter(what=MISSING)
    deleted: int = mended.delete()[0]
    return deleted
