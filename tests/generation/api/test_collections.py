"""Collections by API."""

from typing import Any

from accounts.models import User
from generation.models import Collection, Image
from tests.conftest import client_of
from tests.generation.drawn import finished

COLLECTIONS = "/api/v1/collections/"


def post(user: User, path: str, body: dict[str, Any]) -> Any:
    return client_of(user).post(f"{COLLECTIONS}{path}", body, format="json")


def test_a_collection_is_made_named_filled_and_deleted(alice: User) -> None:
    images = [finished(alice).images.get() for _ in range(2)]
    ids = [str(image.pk) for image in images]
    made = post(alice, "", {"name": "Stars"})
    assert made.status_code == 201
    pk = made.json()["id"]
    assert made.json()["images"] == 0
    for _ in range(2):
        assert post(alice, f"{pk}/add/", {"images": ids}).json()["images"] == 2
    assert post(alice, f"{pk}/remove/", {"images": ids[:1]}).json()["images"] == 1
    renamed = client_of(alice).patch(f"{COLLECTIONS}{pk}/", {"name": "One star"}, format="json")
    assert (renamed.json()["name"], renamed.json()["images"]) == ("One star", 1)
    Image.objects.trash()
    assert client_of(alice).get(COLLECTIONS).json()["results"][0]["images"] == 0
    assert client_of(alice).delete(f"{COLLECTIONS}{pk}/").status_code == 204
    assert (Collection.objects.count(), Image.objects.count()) == (0, 2)


def test_a_name_is_taken_once_by_each(alice: User, bob: User) -> None:
    assert post(alice, "", {"name": "Stars"}).status_code == 201
    assert post(bob, "", {"name": "Stars"}).status_code == 201
    response = post(alice, "", {"name": "Stars"})
    assert response.status_code == 409
    assert response.json()["errors"][0]["detail"] == "You have a collection of this name. Choose another."
    other = post(alice, "", {"name": "Rings"}).json()["id"]
    taken = client_of(alice).patch(f"{COLLECTIONS}{other}/", {"name": "Stars"}, format="json")
    assert taken.status_code == 409


def test_only_pictures_of_ones_own_go_in(alice: User, bob: User) -> None:
    theirs = finished(bob).images.get()
    pk = post(alice, "", {"name": "Stars"}).json()["id"]
    response = post(alice, f"{pk}/add/", {"images": [str(theirs.pk)]})
    assert response.status_code == 400
    assert response.json()["errors"][0]["detail"] == f"You have no picture {theirs.pk}."
    assert post(alice, f"{pk}/add/", {"images": []}).status_code == 400
