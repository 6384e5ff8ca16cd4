"""Links for people without an account: who makes them, what they show, and what they never show."""

import io
import re
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts.models import User
from generation import png_metadata
from generation.models import Collection, Image, ShareLink
from generation.png_chunks import UnreadablePicture
from generation.views import visitors
from tests.generation.drawn import finished
from tests.generation.test_views import browser_of, lora, text

NEW = "/shares/new/"
SECRET = "a secret prompt about a star"
JSON = {"Accept": "application/json"}


@pytest.fixture
def client(alice: User) -> Client:
    """Alice's browser."""
    return browser_of(alice)


@pytest.fixture
def visitor(db: None) -> Client:
    """Somebody without an account."""
    return Client()


@pytest.fixture
def image(alice: User) -> Image:
    used = lora("midnight", owner=alice, name="Secret LoRA")
    return finished(alice, prompt=SECRET, seed=987654, loras=[(used, 0.8)]).images.get()


def made(client: Client, **fields: Any) -> ShareLink:
    response = client.post(NEW, fields)
    assert response.status_code == 201
    link = ShareLink.objects.order_by("created_at").last()
    assert link
    assert link.get_absolute_url() in response.content.decode()
    return link


def addresses(link: ShareLink, image: Image) -> list[str]:
    page = link.get_absolute_url()
    of_image = f"{page}{image.pk}/"
    return [page, of_image, f"{of_image}file", f"{of_image}thumbnail", f"{page}all.zip"]


def body(response: Any) -> bytes:
    return response.getvalue() if response.streaming else response.content  # type: ignore[no-any-return]


# Making -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "most"), [("1", 1), ("7", 7), ("30", 30), ("90", 90), (None, 7)])
def test_a_link_is_open_for_as_long_as_was_chosen(
    client: Client, image: Image, days: str | None, most: int
) -> None:
    link = made(client, image=image.pk, **({"days": days} if days else {}))
    left = link.expires_at - timezone.now()
    assert timedelta(days=most) - timedelta(minutes=1) < left <= timedelta(days=most)
    assert not link.with_recipe


@pytest.mark.parametrize("days", ["0", "8", "-1", "365", "many", "7.0", "٧"])
def test_no_other_time_is_allowed(client: Client, image: Image, days: str) -> None:
    page = text(client.post(NEW, {"image": image.pk, "days": days}), 400)
    assert "Use 1, 7, 30 or 90 days." in page
    answer = client.post(NEW, {"image": image.pk, "days": days}, headers=JSON)
    assert (answer.status_code, answer.json()) == (400, {"error": "Use 1, 7, 30 or 90 days."})
    assert not ShareLink.objects.exists()


def test_a_selection_becomes_a_collection_of_the_day(client: Client, alice: User) -> None:
    images = list(finished(alice, count=3).images.all())
    links = [made(client, image=[one.pk for one in images[:2]]) for _ in range(2)]
    names = [link.collection.name for link in links if link.collection]
    assert re.fullmatch(r"Shared \d+ \w{3} \d{4}", names[0])
    assert names[1] == f"{names[0]} (2)"
    assert set(links[0].images) == set(images[:2])


def test_a_collection_is_shared_as_it_will_be(client: Client, visitor: Client, alice: User) -> None:
    valley = Collection.objects.create(owner=alice, name="Valley series")
    link = made(client, collection=valley.pk)
    assert "No pictures here now" in text(visitor.get(link.get_absolute_url()))
    valley.add(finished(alice, count=2).images.all())
    page = text(visitor.get(link.get_absolute_url()))
    assert "Valley series" in page
    assert "2 pictures, shared by alice" in page


def test_only_ones_own_is_shared(client: Client, alice: User, bob: User, image: Image) -> None:
    of_bob = finished(bob).images.get()
    collection = Collection.objects.create(owner=bob, name="Bob's")
    trashed = finished(alice).images.get()
    Image.objects.filter(pk=trashed.pk).trash()
    refused: list[dict[str, Any]] = [
        {"image": of_bob.pk}, {"image": [image.pk, of_bob.pk]}, {"collection": collection.pk},
        {"image": trashed.pk}, {"image": "nonsense"}, {"collection": "nonsense"},
    ]  # fmt: skip
    for fields in refused:
        assert client.post(NEW, fields).status_code == 404, fields
        assert client.get(NEW, fields).status_code == 404, fields
    assert not ShareLink.objects.exists()


def test_a_link_of_more_pictures_than_that_is_refused(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generation.views.shares.MOST", 2)
    images = [one.pk for one in finished(alice, count=3).images.all()]
    assert "3 pictures. Share at most 2 at once." in text(client.post(NEW, {"image": images}), 400)


def test_it_is_asked_for_on_a_page_without_a_script(client: Client, image: Image) -> None:
    page = text(client.get(NEW, {"image": str(image.pk)}))
    assert f'<input type="hidden" name="image" value="{image.pk}">' in page
    assert 'name="days" value="7" checked' in page
    posted = text(client.post(NEW, {"image": image.pk, "ask": "yes"}))  # from the gallery's selection
    assert f'<input type="hidden" name="image" value="{image.pk}">' in posted
    assert not ShareLink.objects.exists()
    for nothing in (client.get(NEW), client.post(NEW)):
        assert nothing["Location"] == "/gallery/"


def test_the_dialog_gets_the_link_and_the_list(client: Client, image: Image) -> None:
    answer = client.post(NEW, {"image": image.pk, "with_recipe": "1"}, headers=JSON)
    link = ShareLink.objects.get()
    made = answer.json()
    assert made["url"] == f"http://testserver{link.get_absolute_url()}"
    assert "with prompt and settings" in made["html"]
    closed = client.post(f"/shares/{link.pk}/revoke/", headers=JSON)
    assert "Closed" in closed.json()["html"]


def test_links_are_listed_with_their_state_for_their_owner_alone(
    client: Client, image: Image, bob: User
) -> None:
    assert "No links yet" in text(client.get("/shares/"))
    made(client, image=image.pk)
    expired, closed = made(client, image=image.pk), made(client, image=image.pk)
    ShareLink.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    assert client.post(f"/shares/{closed.pk}/revoke/")["Location"] == "/shares/"
    page = text(client.get("/shares/"))
    assert [page.count(state) for state in ("Open until", ">Expired", ">Closed")] == [1, 1, 1]
    assert page.count("Revoke") == 1
    assert "No links yet" in text(browser_of(bob).get("/shares/"))
    assert browser_of(bob).post(f"/shares/{expired.pk}/revoke/").status_code == 404


# Showing ----------------------------------------------------------------------------------------------------


def test_who_has_the_link_sees_the_picture_and_nothing_of_the_studio(
    client: Client, visitor: Client, image: Image, alice: User
) -> None:
    alice.first_name, alice.last_name = "Ana", "Moreau"
    alice.save()
    link = made(client, image=image.pk)
    for address in addresses(link, image):
        response = visitor.get(address)
        assert response.status_code == 200
        assert response["X-Robots-Tag"] == "noindex, nofollow"
        assert response["Referrer-Policy"] == "no-referrer"
        assert response["Cache-Control"] == "private, no-cache"
        assert not response.cookies
        shown = body(response)
        for secret in (b"secret", b"987654", b"Secret LoRA", alice.email.encode(), b"csrf", b"/login/"):
            assert secret not in shown, (address, secret)
    page = text(visitor.get(link.get_absolute_url()))
    assert "Shared by Ana Moreau" in page
    assert "Made with AI" in page
    assert '<meta name="robots" content="noindex, nofollow">' in page


@pytest.mark.parametrize("query", ["", "?download"])
def test_the_file_is_stripped_and_the_mark_stays(
    client: Client, visitor: Client, image: Image, query: str
) -> None:
    link = made(client, image=image.pk)
    response = visitor.get(f"{addresses(link, image)[2]}{query}")
    png = body(response)
    with image.file.open() as original:
        assert png == png_metadata.without_recipe(original.read())
    assert b"trainedAlgorithmicMedia" in png
    with pytest.raises(UnreadablePicture):
        png_metadata.read(png)
    assert response.get("Content-Disposition", "").startswith("attachment") == bool(query)


def test_the_recipe_is_shown_where_its_owner_ticked_that(
    client: Client, visitor: Client, image: Image
) -> None:
    link = made(client, image=image.pk, with_recipe="1")
    page = text(visitor.get(link.get_absolute_url()))
    for told in (SECRET, "987\u202f654", "Secret LoRA"):
        assert told in page
    png = body(visitor.get(addresses(link, image)[2]))
    recipe = png_metadata.read(png).recipe
    assert recipe
    assert (recipe.prompt, recipe.seed) == (SECRET, 987654)
    assert b"trainedAlgorithmicMedia" in png


def test_a_prompt_in_a_shared_page_is_no_code(client: Client, visitor: Client, alice: User) -> None:
    image = finished(alice, prompt="<script>alert(1)</script>").images.get()
    link = made(client, image=image.pk, with_recipe="1")
    page = text(visitor.get(link.get_absolute_url()))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_visitor_sees_the_pictures_of_a_collection_and_goes_between_them(
    client: Client, visitor: Client, alice: User, image: Image
) -> None:
    first, second = finished(alice, count=2).images.order_by("moment")
    link = made(client, image=[first.pk, second.pk])
    page = link.get_absolute_url()
    shown = text(visitor.get(page))
    assert f"{page}{first.pk}/thumbnail" in shown
    assert f'href="{page}{first.pk}/" rel="next"' in text(visitor.get(f"{page}{second.pk}/"))
    assert visitor.get(f"{page}{image.pk}/file").status_code == 404


@pytest.mark.parametrize("recipe", ["", "1"])
def test_all_are_downloaded_as_they_are_shown(
    client: Client, visitor: Client, alice: User, image: Image, recipe: str
) -> None:
    images = [image, *finished(alice, prompt=SECRET, count=2).images.all()]
    link = made(client, image=[one.pk for one in images], with_recipe=recipe)
    response = visitor.get(f"{link.get_absolute_url()}all.zip")
    assert re.match('attachment; filename="shared-[0-9a-z-]+.zip"', response["Content-Disposition"])
    with zipfile.ZipFile(io.BytesIO(body(response))) as archive:
        assert len(archive.namelist()) == 3
        assert any("987654" in name for name in archive.namelist()) == bool(recipe)
        for name in archive.namelist():
            png = archive.read(name)
            assert (SECRET.encode() in png) == bool(recipe)
            assert b"trainedAlgorithmicMedia" in png


def test_a_large_collection_comes_in_pages(
    client: Client, visitor: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitors, "PAGE", 2)
    newest_first = list(finished(alice, count=3).images.order_by("-moment"))
    address = made(client, image=[one.pk for one in newest_first]).get_absolute_url()
    page = text(visitor.get(address))
    more = f"?before={newest_first[1].moment}"
    assert "3 pictures" in page
    assert more in page
    assert str(newest_first[2].pk) not in page
    assert str(newest_first[2].pk) in text(visitor.get(f"{address}{more}"))
    for nonsense in ("x", "9" * 30, "-1", str(2**63)):
        assert visitor.get(f"{address}?before={nonsense}").status_code == 404


def test_a_page_counts_no_farther_than_it_must(
    client: Client, visitor: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = finished(alice, count=4).images.all()
    images.update(size=1000)
    address = made(client, image=[one.pk for one in images]).get_absolute_url()
    page = text(visitor.get(address))
    assert "4 pictures," in page
    assert re.search(r'Download all <span class="number">3.9.KB</span>', page)
    monkeypatch.setattr(visitors, "COUNTED", 3)
    page = text(visitor.get(address))
    assert "3+ pictures," in page
    assert "Download all</a>" in page


def test_a_browser_that_has_the_file_asks_and_gets_nothing_again(
    client: Client, visitor: Client, image: Image
) -> None:
    link = made(client, image=image.pk)
    for address in addresses(link, image)[2:4]:
        first = visitor.get(address)
        body(first)
        again = visitor.get(address, headers={"If-None-Match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        ShareLink.objects.update(with_recipe=True)
    closed = addresses(link, image)[2]
    ShareLink.objects.revoke()
    assert visitor.get(closed, headers={"If-None-Match": first["ETag"]}).status_code == 404


# Over -------------------------------------------------------------------------------------------------------


def gone(visitor: Client, *addresses: str) -> set[bytes]:
    """What is at the addresses; all of it must be 404."""
    responses = [visitor.get(address) for address in addresses]
    assert {response.status_code for response in responses} == {404}
    assert {response["X-Robots-Tag"] for response in responses} == {"noindex, nofollow"}
    return {body(response) for response in responses}


def test_every_link_that_is_over_answers_alike(
    client: Client, visitor: Client, alice: User, image: Image
) -> None:
    expired, revoked, forged = (made(client, image=image.pk) for _ in range(3))
    ShareLink.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    client.post(f"/shares/{revoked.pk}/revoke/")
    tokens = (f"{forged.token}x", forged.token[:-1], forged.pk.hex, f"{forged.pk.hex}:", "x")
    damaged = [f"/s/{forged.token}/{rest}" for rest in ("x", "x/", f"{image.pk}", f"{image.pk}/x/y")]
    forgeries = [f"/s/{token}/" for token in tokens]
    answers = gone(visitor, *addresses(expired, image), *addresses(revoked, image), *forgeries, *damaged)
    assert len(answers) == 1
    assert b"This link leads nowhere now" in answers.pop()


def test_a_link_without_its_last_slash_works(client: Client, visitor: Client, image: Image) -> None:
    address = made(client, image=image.pk).get_absolute_url()
    assert visitor.get(address[:-1], follow=True).status_code == 200


def test_it_closes_with_its_owners_account(
    client: Client, visitor: Client, alice: User, image: Image
) -> None:
    link = made(client, image=image.pk)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    gone(visitor, *addresses(link, image))


def test_what_is_in_the_trash_is_not_shown(
    client: Client, visitor: Client, alice: User, image: Image
) -> None:
    link = made(client, image=image.pk)
    Image.objects.filter(pk=image.pk).trash()
    gone(visitor, *addresses(link, image))
    Image.objects.restore()
    assert visitor.get(link.get_absolute_url()).status_code == 200
    several = made(client, image=[one.pk for one in finished(alice, count=2).images.all()])
    trashed = several.images.first()
    assert trashed
    whole = f"{several.get_absolute_url()}all.zip"
    assert str(trashed.pk).encode() in body(visitor.get(whole))
    Image.objects.filter(pk=trashed.pk).trash()
    assert str(trashed.pk) not in text(visitor.get(several.get_absolute_url()))
    assert str(trashed.pk).encode() not in body(visitor.get(whole))
    assert visitor.get(addresses(several, trashed)[2]).status_code == 404


def test_it_goes_with_what_it_shows(client: Client, visitor: Client, image: Image) -> None:
    link = made(client, image=image.pk)
    before = addresses(link, image)
    image.delete()
    gone(visitor, *before)


def test_a_missing_or_damaged_file_is_not_there(client: Client, visitor: Client, image: Image) -> None:
    link = made(client, image=image.pk)
    storage = image.file.storage
    storage.delete(str(image.file))
    assert visitor.get(addresses(link, image)[2]).status_code == 404
    storage.save(str(image.file), io.BytesIO(b"no PNG"))
    assert visitor.get(addresses(link, image)[2]).status_code == 404


def test_nothing_is_changed_there(client: Client, visitor: Client, image: Image) -> None:
    link = made(client, image=image.pk)
    for address in addresses(link, image):
        assert visitor.post(address).status_code == 405


def test_a_share_page_takes_as_many_queries_however_many_pictures(
    client: Client, visitor: Client, alice: User, django_assert_num_queries: Any
) -> None:
    address = made(client, image=[one.pk for one in finished(alice, count=2).images.all()]).get_absolute_url()
    with django_assert_num_queries(4):
        visitor.get(address)
    Collection.objects.get().add(finished(alice, count=4).images.all())
    with django_assert_num_queries(4):
        visitor.get(address)


def test_the_policy_of_the_pages_holds_there_too(client: Client, visitor: Client, image: Image) -> None:
    page = visitor.get(made(client, image=image.pk).get_absolute_url())
    assert "default-src 'self'" in page["Content-Security-Policy"]
    assert "style=" not in text(page)
    assert settings.LOGIN_URL not in text(page)
