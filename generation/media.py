"""Private files over HTTP. Whoever calls has already made sure that the picture is the user's."""

from django.http import Http404, HttpResponse, HttpResponseBase

from files import storage
from generation import png_metadata
from generation.models import Image
from generation.png_chunks import UnreadablePicture

_MISSING = "The file of this picture is missing."


def png(image: Image, *, download: str | None = None) -> HttpResponseBase:
    """The picture itself.

    ``download``: as a file to save; ``plain`` is without its recipe, and then its name tells no seed either.
    ``whole`` comes from here wherever the file is: our pages' scripts may fetch from nowhere else.
    """
    if download == "plain":
        return plain(image)
    name = "" if download is None else f"fluxsite-{image.seed}-{image.pk}.png"
    if download == "whole":
        return _from_here(_read(image), f'"{image.sha256}"', name)
    return _file(str(image.file), "image/png", f'"{image.sha256}"', name)


def plain(image: Image) -> HttpResponse:
    """As a file to save, without its recipe."""
    try:
        png = png_metadata.without_recipe(_read(image))
    except UnreadablePicture as error:
        raise Http404(f"The file of this picture cannot be read. {error}") from error
    return _from_here(png, f'"{image.sha256}-plain"', f"fluxsite-{image.pk}.png")


def _read(image: Image) -> bytes:
    try:
        with storage.open(str(image.file)) as file:
            return bytes(file.read())
    except FileNotFoundError:
        raise Http404(_MISSING) from None


def _from_here(png: bytes, etag: str, name: str) -> HttpResponse:
    response = HttpResponse(png, content_type="image/png")
    response["Cache-Control"] = "private, max-age=31536000, immutable"
    response["ETag"] = etag
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def thumbnail(image: Image) -> HttpResponseBase:
    return _file(str(image.thumbnail), "image/webp", f'"{image.sha256}-thumbnail"')


def _file(name: str, content_type: str, etag: str, download_as: str = "") -> HttpResponseBase:
    try:
        response = storage.respond(name, content_type, download_as=download_as)
    except FileNotFoundError:
        raise Http404(_MISSING) from None
    if not storage.redirects:
        response["ETag"] = etag
    return response
