"""Pictures as OpenAI's clients want them: in three formats, in base64, or at an address that expires."""

import base64
import io
from uuid import UUID

import PIL.Image
from django.conf import settings
from django.core import signing
from django.http import HttpRequest
from django.urls import reverse
from rest_framework.exceptions import NotFound

from files import storage
from generation.models import Image
from generation.openai_api.request import ImagesRequest

_signer = signing.TimestampSigner(salt="generation.openai_api")


def in_base64(image: Image, asked: ImagesRequest) -> str:
    return base64.b64encode(encoded(image, asked.output_format, asked.compression)).decode()


def small_in_base64(image: Image, asked: ImagesRequest) -> str:
    """The thumbnail, in the format asked for."""
    with storage.open(str(image.thumbnail)) as file:
        return base64.b64encode(_converted(file.read(), asked.output_format, asked.compression)).decode()


def encoded(image: Image, output_format: str, compression: int) -> bytes:
    """The picture's file; a PNG as it is stored, anything else with its XMP, which marks it as made by AI.

    Raises NotFound where the file is missing.
    """
    try:
        with storage.open(str(image.file)) as file:
            png: bytes = file.read()
    except FileNotFoundError:
        raise NotFound("The file of this picture is missing.") from None
    return png if output_format == "png" else _converted(png, output_format, compression)


def _converted(picture_file: bytes, output_format: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    with PIL.Image.open(io.BytesIO(picture_file)) as picture:
        picture.load()  # the texts of a PNG may come behind its pixels
        xmp = picture.info.get("xmp") or b""
        picture.save(buffer, output_format.upper(), quality=quality, xmp=xmp)
    return buffer.getvalue()


def address(image: Image, asked: ImagesRequest, request: HttpRequest) -> str:
    """Absolute, signed, and good for ``FLUXSITE_OPENAI_URL_SECONDS``, for whoever has it."""
    token = signed(image, asked.output_format, asked.compression)
    return request.build_absolute_uri(reverse("openai:file", args=[token]))


def signed(image: Image, output_format: str, compression: int) -> str:
    """What stands for the picture in its address."""
    return _signer.sign_object([image.pk.hex, output_format, compression], compress=False)


def at(token: str) -> tuple[bytes, str]:
    """The bytes behind an address, and their type. Raises NotFound: it is over, or the picture is gone."""
    try:
        pk, output_format, compression = _signer.unsign_object(
            token, max_age=settings.FLUXSITE_OPENAI_URL_SECONDS
        )
    except (signing.BadSignature, ValueError):
        raise NotFound("This address is not ours, or it has expired.") from None
    image = Image.objects.kept().filter(pk=UUID(pk), owner__is_active=True).first()
    if image is None:
        raise NotFound("This picture is no longer there.")
    return encoded(image, output_format, compression), f"image/{output_format}"
