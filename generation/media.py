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
    """
    if download == "plain":
        return plain(image)
    name = "" if download is None else f"fluxsite-{image.seed}-{image.pk}.png"
    response = _file(str(image.file), "image/png", name)
    response["ETag"] = f'"{image.sha256}"'
    return response


def plain(image: Image) -> HttpResponse:
    """As a file to save, without its recipe."""
    try:
        with storage.open(str(image.file)) as file:
            png = png_metadata.without_recipe(file.read())
    except FileNotFoundError:
        raise Http404(_MISSING) from None
    except UnreadablePicture as error:
        raise Http404(f"The file of this picture cannot be read. {error}") from error
    response = HttpResponse(png, content_type="image/png")
    response["Cache-Control"] = "private, max-age=31536000, immutable"
    response["ETag"] = f'"{image.sha256}-plain"'
    response["Content-Disposition"] = f'attachment; filename="fluxsite-{image.pk}.png"'
    return response


def thumbnail(image: Image) -> HttpResponseBase:
    return _file(str(image.thumbnail), "image/webp")


def _file(name: str, content_type: str, download_as: str = "") -> HttpResponseBase:
    try:
        return storage.respond(name, content_type, download_as=download_as)
    except FileNotFoundError:
        raise Http404(_MISSING) from None
