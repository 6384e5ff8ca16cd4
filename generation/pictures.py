"""Storing a picture: files first, whole and under names of their own, then the row that makes them count."""

import hashlib
import io
import logging
from typing import Any

import PIL.Image
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from files import storage
from generation import png_metadata, search
from generation.models import Image, Job
from generation.png_metadata import Recipe, RecipeLora
from gpu.engines import Cancelled
from gpu.model_card import ModelCard

log = logging.getLogger(__name__)

THUMBNAIL_SIDE = 512


def store(job: Job, index: int, seed: int, image: PIL.Image.Image, **drawn: Any) -> Image:
    """``write`` and ``record``."""
    return record(write(job, index, seed, image, **drawn))


def write(job: Job, index: int, seed: int, image: PIL.Image.Image, **drawn: Any) -> Image:
    """Write PNG and thumbnail; returns the row to ``record``. When one cannot be written, neither stays.

    ``drawn``: what the row keeps of how it came about, ``model, backend, batch_size, vae_tiling``.

    The id, and with it the file names, are new at every attempt, so a worker that comes back from the
    dead cannot touch what another has stored. Raises OSError when the disk is full.
    """
    pk = uuid7()
    png = png_metadata.encoded(image, recipe(job, seed, **drawn))
    name = f"{timezone.now():images/%Y/%m/%d}/{pk}"
    row = Image(
        id=pk, job=job, owner_id=job.owner_id, index=index, seed=seed, width=image.width, height=image.height,
        file=f"{name}.png", thumbnail=f"{name}.webp", **drawn,
        words=search.words_of(job, seed), facts=search.facts_of(job),
        sha256=hashlib.sha256(png).hexdigest(), size=len(png),
    )  # fmt: skip
    try:
        storage.save(str(row.file), ContentFile(png))
        storage.save(str(row.thumbnail), ContentFile(thumbnail_bytes(image)))
    except OSError:
        _delete_files(row)
        raise
    return row


def record(row: Image) -> Image:
    """Insert the row of a picture that was written; may be asked again when the database was away.

    Raises Cancelled, with the files deleted, when another attempt has the job or nobody.
    """
    with transaction.atomic():
        # The update locks the job until the commit: nobody takes it between the question and the insert.
        if Job.objects.keep(row.job.pk, row.job.attempt):
            # The connection may have been lost after the commit.
            if not Image.objects.filter(pk=row.pk).exists():
                row.save(force_insert=True)
            return row
    _delete_files(row)
    raise Cancelled


def _delete_files(row: Image) -> None:
    """Delete what was written a moment ago; what stays has no row, and a cleanup finds it."""
    try:
        storage.delete(str(row.file))
        storage.delete(str(row.thumbnail))
    except OSError as error:
        log.warning("The files of a picture that is not kept stay until a cleanup: %s", error)


def recipe(job: Job, seed: int, **drawn: Any) -> Recipe:
    """What the picture of ``seed`` in a job was drawn from, and how: see ``write``.

    Nothing of it tells when, or which job: the same recipe drawn again gives the same file.
    """
    chosen = job.job_loras.all() if job.lora_set else ()
    return Recipe(
        job.prompt, job.width, job.height, seed, job.steps, job.engine,
        **drawn, demo=ModelCard.of(settings.FLUXSITE_MODEL).demo,
        loras=tuple(RecipeLora(one.slug, one.name, one.sha256, one.weight) for one in chosen),
    )  # fmt: skip


def thumbnail_bytes(image: PIL.Image.Image) -> bytes:
    """The picture as WebP, its longer side at most 512 pixels."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=4)
    return buffer.getvalue()
