"""A link shows what it was made for, until it is over."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from generation.models import Collection, ShareLink
from tests.generation.drawn import finished

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def link_to_a_picture(owner: User, expires_in: timedelta = DAY) -> ShareLink:
    image = finished(owner).images.get()
    return ShareLink.objects.create(owner=owner, image=image, expires_at=timezone.now() + expires_in)


def test_its_token_finds_it_and_no_other_does(alice: User) -> None:
    link = link_to_a_picture(alice)
    assert ShareLink.objects.of_token(link.token).get() == link
    for token in (link.token[:-1], link.pk.hex, f"{link.pk.hex}:", "", "\x00"):
        assert not ShareLink.objects.of_token(token).exists()


def test_it_is_over_once_it_expires_is_revoked_or_its_owner_is_gone(alice: User) -> None:
    assert not ShareLink.objects.of_token(link_to_a_picture(alice, -DAY).token).exists()
    link = link_to_a_picture(alice)
    mine = ShareLink.objects.filter(pk=link.pk)
    assert (mine.revoke(), mine.revoke()) == (1, 0)
    assert not ShareLink.objects.of_token(link.token).exists()
    other = link_to_a_picture(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert not ShareLink.objects.of_token(other.token).exists()


def test_what_is_in_the_trash_is_not_shown(alice: User) -> None:
    images = finished(alice, count=2).images.order_by("moment")
    valley = Collection.objects.create(owner=alice, name="Valley")
    valley.add(images)
    link = ShareLink.objects.create(owner=alice, collection=valley, expires_at=timezone.now() + DAY)
    images.filter(index=0).trash()
    assert list(link.images) == [images.get(index=1)]
