"""Collections hold pictures in the gallery's order."""

import pytest
from django.db import IntegrityError

from accounts.models import User
from generation.models import Collection, Image
from tests.generation.drawn import finished

pytestmark = pytest.mark.django_db


def test_pictures_are_in_it_once_newest_first(alice: User) -> None:
    old, new = finished(alice, count=2).images.order_by("moment")
    valley = Collection.objects.create(owner=alice, name="Valley")
    valley.add([new, old])
    valley.add([old])
    assert list(Image.objects.in_collection(valley).newest_first()) == [new, old]
    assert list(Image.objects.in_collection(valley).before(new.moment)) == [old]
    assert valley.remove([old]) == 1
    assert list(Image.objects.in_collection(valley).newest_first()) == [new]


def test_a_picture_that_is_deleted_leaves_it(alice: User) -> None:
    image = finished(alice).images.get()
    valley = Collection.objects.create(owner=alice, name="Valley")
    valley.add([image])
    image.delete()
    assert not valley.placements.exists()


def test_two_of_one_owner_have_two_names(alice: User, bob: User) -> None:
    for owner in (alice, bob):
        Collection.objects.create(owner=owner, name="Valley")
    with pytest.raises(IntegrityError):
        Collection.objects.create(owner=alice, name="Valley")
