"""Storing a picture: files first, whole and under names of their own, then the row that makes them count."""

import hashlib
import io
from typing import Any

import PIL.Image
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from generation.models import Image, Job
from gpu.engines import Cancelled

# PNG level 1 is about 4 times as fast as the default 6, and the GPU waits meanwhile.
PNG_LEVEL = 1
THUMBNAIL_SIDE = 512


def store(job: Job, index: int, seed: int, image: PIL.Image.Image, **drawn: Any) -> Image:
    """Write PNG and thumbnail and record them, unless the attempt has lost the job.

    ``drawn``: what the row keeps of how it came about, ``model, backend, batch_size, vae_tiling``.

    The id, and with it the file names, are new at every attempt, so a worker that comes back from the
    dead cannot touch what another has stored. Raises Cancelled when the job was taken away.
    """
    pk = uuid7()
    png = png_bytes(image)
    folder = timezone.now().strftime("images/%Y/%m/%d")
    file = default_storage.save(f"{folder}/{pk}.png", ContentFile(png))
    thumbnail = default_storage.save(f"{folder}/{pk}.webp", ContentFile(thumbnail_bytes(image)))
    row = Image(
        id=pk, job=job, owner_id=job.owner_id, index=index, seed=seed, width=image.width, height=image.height,
        file=file, thumbnail=thumbnail, **drawn,
        sha256=hashlib.sha256(png).hexdigest(), size=len(png),
    )  # fmt: skip
    if not _record(row):
        default_storage.delete(file)
        default_storage.delete(thumbnail)
        raise Cancelled
    return row


def _record(row: Image) -> bool:
    """Insert the row if its attempt still holds the job."""
    with transaction.atomic():
        # The update locks the job until the commit: nobody takes it between the question and the insert.
        if not Job.objects.keep(row.job.pk, row.job.attempt):
            return False
        row.save(force_insert=True)
        return True


def png_bytes(image: PIL.Image.Image) -> bytes:
    """The picture as PNG. The same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def thumbnail_bytes(image: PIL.Image.Image) -> bytes:
    """The picture as WebP, its longer side at most 512 pixels."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=4)
    return buffer.getvalue()
