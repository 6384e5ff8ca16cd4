"""Private files over HTTP. Whoever calls has already made sure that the picture is the user's."""

import shutil
from typing import Any

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db.models.fields.files import FieldFile
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase

from generation import png_metadata
from generation.models import Image
from generation.png_chunks import UnreadablePicture

CACHE = "private, max-age=31536000, immutable"


def png(image: Image, *, download: str | None = None) -> HttpResponseBase:
    """The picture itself. Its bytes never change, so a browser may keep them; a shared cache may not.

    ``download``: as a file to save; ``plain`` is without its recipe, and then its name tells no seed either.
    """
    if download == "plain":
        return _plain(image)
    response = _file(image.file, "image/png")
    response["ETag"] = f'"{image.sha256}"'
    if download is not None:
        response["Content-Disposition"] = f'attachment; filename="fluxsite-{image.seed}-{image.pk}.png"'
    return response


def _plain(image: Image) -> HttpResponse:
    with _opened(image.file) as file:
        try:
            png = png_metadata.without_recipe(file.read())
        except UnreadablePicture as error:
            raise Http404(f"The file of this picture cannot be read. {error}") from error
    response = HttpResponse(png, content_type="image/png")
    response["Cache-Control"] = CACHE
    response["ETag"] = f'"{image.sha256}-plain"'
    response["Content-Disposition"] = f'attachment; filename="fluxsite-{image.pk}.png"'
    return response


def thumbnail(image: Image) -> FileResponse:
    return _file(image.thumbnail, "image/webp")


def _file(file: FieldFile, content_type: str) -> FileResponse:
    response = FileResponse(_opened(file), content_type=content_type)
    response["Cache-Control"] = CACHE
    return response


def _opened(file: FieldFile) -> "File[Any]":
    try:
        return default_storage.open(file.name or "")
    except FileNotFoundError:
        raise Http404("The file of this picture is missing.") from None


def free_bytes() -> int | None:
    """Room for pictures; None when they are not kept on a disk of this machine."""
    try:
        return shutil.disk_usage(settings.MEDIA_ROOT).free
    except OSError:
        return None
