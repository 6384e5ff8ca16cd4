"""What is done with many pictures at once, collections, and the ZIP."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.core.files.storage import default_storage
from django.template.defaultfilters import filesizeformat
from django.test import Client

from accounts.models import User
from generation import archive, png_metadata
from generation.models import Collection, Image, ShareLink
from tests.conftest import files_under
from tests.generation.drawn import finished

pytestmark = pytest.mark.django_db
VERBS = ("favourite", "unfavourite", "trash", "restore", "collect", "uncollect", "delete", "zip")


@pytest.fixture(autouse=True)
def client(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def picture(owner: User, **changes: Any) -> Image:
    return finished(owner, **changes).images.get()


def ids(*images: Image) -> list[str]:
    return [str(image.pk) for image in images]


def act(client: Client, verb: str, *images: Image, status: int = 200, **fields: Any) -> dict[str, Any]:
    """What a script is answered."""
    sent = {"image": ids(*images), **fields}
    response = client.post(f"/pictures/{verb}/", sent, headers={"accept": "application/json"})
    assert response.status_code == status
    return dict(json.loads(response.content)) if response["Content-Type"] == "application/json" else {}


# Verbs -------------------------------------------------------------------------------------------------


def test_each_verb_says_what_it_did(client: Client, alice: User) -> None:
    one, two = picture(alice), picture(alice)
    mine = Image.objects.visible_to(alice)
    assert act(client, "favourite", one, two)["said"] == "2 pictures in your favourites"
    assert mine.filter(favourite=True).count() == 2
    assert act(client, "unfavourite", one)["said"] == "1 picture taken out of your favourites"
    assert act(client, "trash", one, two) == {
        "said": "2 pictures moved to trash", "undo": "/pictures/restore/"
    }  # fmt: skip
    assert mine.kept().count() == 0
    assert act(client, "restore", one, two) == {"said": "2 pictures restored", "undo": None}
    assert mine.kept().count() == 2


@pytest.mark.parametrize("verb", VERBS)
def test_with_a_picture_of_another_nothing_is_done(
    client: Client, alice: User, bob: User, charlie: User, verb: str
) -> None:
    valley = Collection.objects.named(alice, "Valley")
    for other in (bob, charlie):
        mine, theirs = picture(alice), picture(other)
        valley.add([mine])
        before = list(Image.objects.order_by("pk").values())
        fields = {"name": "New", "in_collection": str(valley.pk), "sure": "yes"}
        act(client, verb, mine, theirs, status=404, **fields)
        assert list(Image.objects.order_by("pk").values()) == before
        assert list(valley.images.all()) == [mine]
        valley.remove([mine])
    assert list(Collection.objects.all()) == [valley]


@pytest.mark.parametrize("verb", VERBS)
def test_no_picture_and_too_many_are_refused_in_a_sentence(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    assert act(client, verb, status=400) == {"error": "Choose a picture first."}
    monkeypatch.setattr("generation.views.selection.MOST", 1)
    refused = act(client, verb, picture(alice), picture(alice), status=400)
    assert refused == {"error": "2 pictures are chosen. Choose 1 or fewer."}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_id_is_not_there(client: Client, verb: str) -> None:
    assert client.post(f"/pictures/{verb}/", {"image": "x"}).status_code == 404


def test_without_javascript_it_leads_back_with_a_message(client: Client, alice: User) -> None:
    image = picture(alice)
    came_from = "http://testserver/gallery/?q=star"
    response = client.post("/pictures/favourite/", {"image": image.pk}, headers={"referer": came_from})
    assert response.headers["Location"] == came_from
    assert "1 picture in your favourites" in client.get("/gallery/").content.decode()
    elsewhere = {"referer": "https://evil.example/gallery/"}
    response = client.post("/pictures/trash/", {"image": image.pk}, headers=elsewhere)
    assert response.headers["Location"] == "/gallery/"


# Collections -------------------------------------------------------------------------------------------


def test_pictures_go_into_a_collection_that_is_there_or_new(client: Client, alice: User) -> None:
    image = picture(alice)
    assert act(client, "collect", image, name=" Valley ")["said"] == "1 picture in Valley"
    valley = Collection.objects.get(owner=alice)
    act(client, "collect", image, name="Valley")
    act(client, "collect", image, collection=str(valley.pk))
    assert [*Collection.objects.all(), *valley.images.all()] == [valley, image]
    said = act(client, "uncollect", image, in_collection=str(valley.pk))["said"]
    assert said == "1 picture taken out of Valley"
    assert not valley.images.exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("", "Give the collection a name."), ("a" * 81, "Use 80 characters or fewer for the name.")],
)
def test_a_name_that_cannot_be_is_refused(client: Client, alice: User, name: str, sentence: str) -> None:
    assert act(client, "collect", picture(alice), name=name, status=400) == {"error": sentence}
    response = client.post("/collections/", {"name": name})
    assert response.status_code == 400
    assert sentence in response.content.decode()
    assert not Collection.objects.exists()


def test_a_collection_of_another_is_not_there(client: Client, alice: User, bob: User, charlie: User) -> None:
    image = picture(alice)
    for other in (bob, charlie):
        theirs = Collection.objects.named(other, "Theirs")
        act(client, "collect", image, collection=str(theirs.pk), status=404)
        act(client, "uncollect", image, in_collection=str(theirs.pk), status=404)
        act(client, "zip", whole=str(theirs.pk), status=404)
        assert client.get(f"/collections/{theirs.pk}/").status_code == 404
        assert client.post(f"/collections/{theirs.pk}/delete/").status_code == 404
    assert Collection.objects.count() == 2


def test_collections_are_made_renamed_and_deleted(client: Client, alice: User) -> None:
    image = picture(alice)
    client.post("/collections/", {"name": "Valley"})
    client.post("/collections/", {"name": "Orchard"})
    valley = Collection.objects.get(name="Valley")
    valley.add([image])
    html = client.get("/collections/").content.decode()
    assert '<b>Valley</b><span class="meta">1 picture</span>' in html
    Image.objects.trash()
    html = client.get("/collections/").content.decode()
    assert '<b>Valley</b><span class="meta">0 pictures</span>' in html
    taken = client.post(f"/collections/{valley.pk}/", {"name": "Orchard"})
    assert "You have a collection of this name. Choose another." in taken.content.decode()
    client.post(f"/collections/{valley.pk}/", {"name": "Low valley"})
    valley.refresh_from_db()
    assert valley.name == "Low valley"
    ShareLink.to(alice, collection=valley)
    assert "1 share link that shows it will end" in client.get(f"/collections/{valley.pk}/").content.decode()
    client.post(f"/collections/{valley.pk}/delete/")
    assert [one.name for one in Collection.objects.all()] == ["Orchard"]
    assert Image.objects.get() == image


# For good ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_deleting_for_good_asks_first_and_frees_the_files(client: Client, alice: User, media: Path) -> None:
    thrown, other, kept = picture(alice), picture(alice), picture(alice)
    Image.objects.filter(pk__in=ids(thrown, other)).trash()
    ShareLink.to(alice, [thrown])
    html = client.post("/pictures/delete/", {"image": ids(thrown, kept)}).content.decode()
    assert "Delete 1 picture for good?" in html
    assert "1 share link that shows it will end" in html
    assert Image.objects.count() == 3
    client.post("/pictures/delete/", {"image": ids(thrown, kept), "sure": "yes"})
    assert set(Image.objects.all()) == {other, kept}
    assert not default_storage.exists(str(thrown.file))
    assert len(files_under(media)) == 4


@pytest.mark.django_db(transaction=True)
def test_emptying_the_trash_says_what_it_frees_and_leaves_the_rest(
    client: Client, alice: User, bob: User, media: Path
) -> None:
    kept, theirs = picture(alice), picture(bob)
    thrown = [picture(alice) for _ in range(3)]
    Image.objects.filter(pk__in=ids(theirs, *thrown)).trash()
    html = client.get("/trash/empty/").content.decode()
    assert "Delete 3 pictures for good?" in html
    assert f"This frees {filesizeformat(sum(image.size for image in thrown))}" in html
    assert client.post("/trash/empty/").headers["Location"] == "/trash/"
    assert set(Image.objects.all()) == {kept, theirs}
    assert len(list(media.rglob("*.png"))) == 2


def test_purging_goes_on_in_parts_until_nothing_is_left(alice: User) -> None:
    job = finished(alice, count=4)
    job.images.filter(index__gt=0).trash()
    assert Image.objects.visible_to(alice).purge(at_once=2) == 3
    assert Image.objects.get().index == 0


# ZIP ---------------------------------------------------------------------------------------------------


def unzipped(response: Any) -> zipfile.ZipFile:
    assert response.status_code == 200
    assert response["Content-Type"] == "application/zip"
    file = zipfile.ZipFile(io.BytesIO(b"".join(response.streaming_content)))
    assert file.testzip() is None
    return file


def test_a_zip_has_the_very_files_under_names_of_their_own(client: Client, alice: User) -> None:
    images = [picture(alice, seed=7), picture(alice, seed=7), picture(alice, seed=8)]
    file = unzipped(client.post("/pictures/zip/", {"image": ids(*images)}))
    hashes = {name: hashlib.sha256(file.read(name)).hexdigest() for name in file.namelist()}
    assert hashes == {f"fluxsite-{image.seed}-{image.pk}.png": image.sha256 for image in images}
    assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}


def test_without_recipes_neither_files_nor_names_tell_anything(client: Client, alice: User) -> None:
    image = picture(alice, prompt="a secret orchard", seed=418207733)
    file = unzipped(client.post("/pictures/zip/", {"image": ids(image), "recipe": "no"}))
    assert file.namelist() == [f"fluxsite-{image.pk}.png"]
    plain = file.read(file.namelist()[0])
    with default_storage.open(str(image.file)) as whole:
        assert plain == png_metadata.without_recipe(whole.read())
    assert b"orchard" not in plain


def test_a_whole_collection_comes_as_one_file_named_after_it(client: Client, alice: User) -> None:
    inside, thrown, _ = picture(alice), picture(alice), picture(alice)
    valley = Collection.objects.named(alice, "Low Valley é")
    valley.add([inside, thrown])
    Image.objects.filter(pk=thrown.pk).trash()
    response = client.post("/pictures/zip/", {"whole": valley.pk})
    assert response["Content-Disposition"] == 'attachment; filename="fluxsite-low-valley-e.zip"'
    assert [name for name in unzipped(response).namelist() if str(inside.pk) in name]


def test_a_picture_whose_file_is_gone_is_named_in_the_zip(client: Client, alice: User) -> None:
    there, gone = picture(alice), picture(alice)
    default_storage.delete(str(gone.file))
    file = unzipped(client.post("/pictures/zip/", {"image": ids(there, gone)}))
    assert len(file.namelist()) == 2
    assert str(gone.pk) in file.read("missing.txt").decode()


def test_a_zip_is_read_piece_by_piece(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither all pictures nor a whole one are in memory."""
    monkeypatch.setattr(archive, "CHUNK", 64)
    images = [picture(alice) for _ in range(3)]
    largest = max(len(piece) for piece in archive.stream(Image.objects.all().in_pages(2)))
    assert largest < min(image.size for image in images) + 600
    with patch.object(default_storage, "open", wraps=default_storage.open) as opened:
        pieces = archive.stream(Image.objects.all().in_pages(2))
        next(iter(pieces))
        assert opened.call_count == 1
        del pieces
