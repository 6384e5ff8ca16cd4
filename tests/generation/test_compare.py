"""Two pictures side by side."""

from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import User
from generation.models import Image
from generation.models import image as models_image
from tests.generation.drawn import finished
from tests.generation.test_views import browser_of, text


@pytest.fixture
def client(alice: User) -> Client:
    return browser_of(alice)


def pair(owner: User) -> tuple[Image, Image]:
    draft = finished(owner, engine="fp4", seed=7).images.get()
    return draft, finished(owner, engine="bf16", seed=7).images.get()


def page_of(client: Client, image: Image, query: str = "", status: int = 200) -> str:
    return text(client.get(f"/images/{image.pk}/compare/{query}"), status)


def test_the_draft_is_left_whichever_one_comes_from(client: Client, alice: User) -> None:
    draft, final = pair(alice)
    for image in (draft, final):
        page = page_of(client, image)
        assert page.index(f"/images/{draft.pk}/file/") < page.index(f"/images/{final.pk}/file/")
        assert "Same seed 7" in page


def test_one_recipe_is_told_however_often_it_was_drawn(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_image, "FAMILY_MOST", 2)
    drafts = [pair(alice)[0] for _ in range(3)]
    assert "Same seed 7" in page_of(client, drafts[0], f"?with={drafts[1].pk}")


def test_keeping_the_final_moves_the_draft_to_the_trash(client: Client, alice: User) -> None:
    draft, final = pair(alice)
    keep = f"/images/{draft.pk}/trash/?show={final.pk}"
    assert f'formaction="{keep}"' in page_of(client, draft)
    assert client.post(keep)["Location"] == final.get_absolute_url()
    assert list(Image.objects.kept()) == [final]
    assert "Undo" in text(client.get(final.get_absolute_url()))


def test_only_ones_own_are_compared(client: Client, alice: User, bob: User) -> None:
    draft, _ = pair(alice)
    of_bob, _ = pair(bob)
    page_of(browser_of(bob), draft, status=404)
    for other in (of_bob.pk, uuid4(), "nonsense"):
        page_of(client, draft, f"?with={other}", status=404)
        assert client.post(f"/images/{draft.pk}/trash/?show={other}").status_code == 404
    assert not Image.objects.trashed().exists()
    assert "Two pictures" not in page_of(client, of_bob, status=404)


def test_any_two_of_one_size_are_compared(client: Client, alice: User) -> None:
    one, other = finished(alice, seed=1).images.get(), finished(alice, seed=2).images.get()
    page = page_of(client, one, f"?with={other.pk}")
    assert "Two pictures of the same size" in page
    assert "Keep" not in page
    wide = finished(alice, width=128).images.get()
    page_of(client, one, f"?with={wide.pk}", status=404)


def test_a_draft_without_a_final_offers_one(client: Client, alice: User) -> None:
    draft = finished(alice, engine="fp4").images.get()
    page = page_of(client, draft)
    assert "There is no final of this draft yet." in page
    assert f'formaction="/images/{draft.pk}/finish/"' in page


def test_a_picture_without_a_draft_says_so(client: Client, alice: User) -> None:
    final = finished(alice, engine="bf16").images.get()
    page = page_of(client, final)
    assert "There is no draft of this picture" in page
    assert "/finish/" not in page


def test_a_final_under_way_is_shown_and_looked_at_again_without_a_script(client: Client, alice: User) -> None:
    draft = finished(alice, engine="fp4").images.get()
    client.post(f"/images/{draft.pk}/finish/")
    page = page_of(client, draft)
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in page
    assert 'data-active="yes"' in page
    assert "Cancel" in page
