"""Files of pictures where they are in a store that hosts share, which browsers get by links that end soon."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from files.shared import SharedStorage
from generation.models import Image, ShareLink
from tests.generation.drawn import finished
from tests.generation.test_views import browser_of
from tests.store import server, shared  # noqa: F401 (fixtures)


@pytest.fixture
def image(alice: User, shared: SharedStorage) -> Image:  # noqa: F811
    return finished(alice).images.get()


def to(image: Image, **fields: Any) -> str:
    """Where a visitor gets the picture's file."""
    assert image.owner
    link = ShareLink.objects.create(
        owner=image.owner, image=image, expires_at=timezone.now() + timedelta(days=1), **fields
    )
    return f"{link.get_absolute_url()}{image.pk}/"


@pytest.mark.parametrize("what", ["file", "thumbnail"])
def test_a_visitor_gets_a_new_link_to_the_store_each_time(image: Image, what: str) -> None:
    address = f"{to(image, with_recipe=True)}{what}"
    for etag in (f'"{image.sha256}"', f'"{image.sha256}-thumbnail"'):
        response = Client().get(address, headers={"If-None-Match": etag})
        assert response.status_code == 302
        assert "X-Amz-Expires=300" in response["Location"]
        assert "ETag" not in response


def test_without_its_recipe_a_picture_comes_from_here_and_is_kept(image: Image) -> None:
    address = f"{to(image)}file"
    first = Client().get(address)
    assert first.status_code == 200
    assert Client().get(address, headers={"If-None-Match": first["ETag"]}).status_code == 304


def test_scripts_of_our_pages_get_a_picture_from_here(image: Image, shared: SharedStorage) -> None:  # noqa: F811
    assert image.owner
    client = browser_of(image.owner)
    assert client.get(f"/images/{image.pk}/file/").status_code == 302
    response = client.get(f"/images/{image.pk}/file/?download=whole")
    with shared.open(str(image.file)) as file:
        assert (response.status_code, response.content) == (200, file.read())
    shared.delete(str(image.file))
    assert client.get(f"/images/{image.pk}/file/?download=whole").status_code == 404
