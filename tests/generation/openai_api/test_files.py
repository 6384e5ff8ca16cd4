"""Pictures for OpenAI's clients: marked in every format, and at addresses that end."""

import io
import time
from typing import Any
from urllib.parse import urlsplit

import PIL.Image
import PIL.PngImagePlugin
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client, RequestFactory

from accounts.models import User
from generation.models import Image
from generation.openai_api import files
from generation.openai_api.request import ImagesRequest, read
from tests.conftest import asked as body
from tests.generation.drawn import finished

MARK = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">trainedAlgorithmicMedia</x:xmpmeta>'


@pytest.fixture
def image(alice: User) -> Image:
    return finished(alice).images.get()


def wanted(user: User, **fields: Any) -> ImagesRequest:
    return read({"prompt": body()["prompt"], **fields}, user)


def address(image: Image, **fields: Any) -> str:
    assert image.owner
    return files.address(image, wanted(image.owner, **fields), RequestFactory().get("/"))


def replace(image: Image, picture: PIL.Image.Image, **options: Any) -> None:
    """Put another picture into its file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    default_storage.delete(str(image.file))
    default_storage.save(str(image.file), ContentFile(buffer.getvalue()))


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_what_marks_a_picture_as_made_by_ai_stays_in_every_format(image: Image, output_format: str) -> None:
    texts = PIL.PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", MARK.decode())
    replace(image, PIL.Image.new("RGB", (64, 64), "red"), pnginfo=texts)
    with PIL.Image.open(io.BytesIO(files.encoded(image, output_format, 80))) as picture:
        assert picture.format == output_format.upper()
        assert MARK in picture.info["xmp"]


def test_less_quality_takes_fewer_bytes(image: Image) -> None:
    replace(image, PIL.Image.effect_noise((64, 64), 100).convert("RGB"))
    sizes = [len(files.encoded(image, "jpeg", quality)) for quality in (10, 95)]
    assert sizes[0] < sizes[1]


def test_an_address_is_absolute_and_opens_without_a_token(client: Client, image: Image) -> None:
    url = urlsplit(address(image, output_format="webp"))
    assert (url.scheme, url.netloc) == ("http", "testserver")
    response = client.get(url.path)
    assert (response.status_code, response["Content-Type"]) == (200, "image/webp")
    assert "private" in response["Cache-Control"]


def test_an_address_ends(client: Client, image: Image, settings: Any) -> None:
    path = urlsplit(address(image)).path
    settings.FLUXSITE_OPENAI_URL_SECONDS = 0
    time.sleep(0.01)
    response = client.get(path)
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "This address is not ours, or it has expired."


@pytest.mark.parametrize("change", ["trashed", "deleted", "owner is switched off", "file is lost"])
def test_an_address_leads_nowhere_once_the_picture_is_gone(
    client: Client, image: Image, alice: User, change: str
) -> None:
    path = urlsplit(address(image)).path
    if change == "trashed":
        Image.objects.trash()
    elif change == "deleted":
        image.delete()
    elif change == "file is lost":
        default_storage.delete(str(image.file))
    else:
        User.objects.update(is_active=False)
    response = client.get(path)
    assert response.status_code == 404
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_an_address_cannot_be_made_up(client: Client, image: Image) -> None:
    path = urlsplit(address(image)).path
    for forged in (f"{path}x", path.replace("files/", "files/A"), "/v1/images/files/1:2:3"):
        assert client.get(forged).status_code == 404
