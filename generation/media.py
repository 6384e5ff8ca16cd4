"""Private files over HTTP. Whoever calls has already made sure that the picture is the user's."""

import shutil

from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models.fields.files import FieldFile
from django.http import FileResponse, Http404

from generation.models import Image


def png(image: Image, *, download: bool = False) -> FileResponse:
    """The picture itself. Its bytes never change, so a browser may keep them; a shared cache may not."""
    response = _file(image.file, "image/png")
    response["ETag"] = f'"{image.sha256}"'
    if download:
        response["Content-Disposition"] = f'attachment; filename="fluxsite-{image.seed}-{image.pk}.png"'
    return response


def thumbnail(image: Image) -> FileResponse:
    return _file(image.thumbnail, "image/webp")


def _file(file: FieldFile, content_type: str) -> FileResponse:
    try:
        opened = default_storage.open(file.name or "")
    except FileNotFoundError:
        raise Http404("The file of this picture is missing.") from None
    response = FileResponse(opened, content_type=content_type)
    response["Cache-Control"] = "private, max-age=31536000, immutable"
    return response


def free_bytes() -> int | None:
    """Room for pictures; None when they are not kept on a disk of this machine."""
    try:
        return shutil.disk_usage(settings.MEDIA_ROOT).free
    except OSError:
        return None
