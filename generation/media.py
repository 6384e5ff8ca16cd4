"""Private files over HTTP. Whoever calls has already made sure that the picture is the user's."""

from django.http import Http404, HttpResponseBase

from files import storage
from generation.models import Image


def png(image: Image, *, download: bool = False) -> HttpResponseBase:
    """The picture itself."""
    response = _file(
        str(image.file), "image/png", f"fluxsite-{image.seed}-{image.pk}.png" if download else ""
    )
    response["ETag"] = f'"{image.sha256}"'
    return response


def thumbnail(image: Image) -> HttpResponseBase:
    return _file(str(image.thumbnail), "image/webp")


def _file(name: str, content_type: str, download_as: str = "") -> HttpResponseBase:
    try:
        return storage.respond(name, content_type, download_as=download_as)
    except FileNotFoundError:
        raise Http404("The file of this picture is missing.") from None
