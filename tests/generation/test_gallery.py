"""The gallery and the trash: what they list, how they are narrowed, what it costs."""

from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from generation.gallery_filters import FilterForm, Filters, moment_of_day
from generation.models import Collection, Image, Job
from generation.moments import LAST_MOMENT
from loras.models import Lora
from tests.generation.drawn import finished
from tests.loras.test_uploads import add

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def client(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def picture(owner: User, prompt: str = "a star", days_ago: int = 0, **changes: Any) -> Image:
    image = finished(owner, prompt=prompt, **changes).images.get()
    if days_ago:
        moment = moment_of_day(timezone.localdate() - timedelta(days=days_ago))
        Image.objects.filter(pk=image.pk).update(moment=moment)
        image.refresh_from_db()
    return image


def page(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status
    return response.content.decode()


def shown(client: Client, path: str) -> list[str]:
    """The ids of the pictures on a page, in order."""
    parts = page(client, path).split('class="ring" type="checkbox" name="image" value="')[1:]
    return [part[:36] for part in parts]


def read(response: Any) -> bytes:
    assert response.status_code == 200
    return b"".join(response.streaming_content)


# Filters -----------------------------------------------------------------------------------------------


def test_each_filter_leaves_its_pictures(client: Client, alice: User) -> None:
    lora = Lora.objects.get(pk=add(alice, name="Fog").pk)
    Lora.objects.filter(pk=lora.pk).update(state="ready")
    fox = picture(alice, "two golden foxes", seed=7)
    fp4 = picture(alice, engine="fp4")
    foggy = picture(alice, loras=[(lora, 1.0)])
    old = picture(alice, days_ago=3)
    loved = picture(alice)
    Image.objects.filter(pk=loved.pk).update(favourite=True)
    valley = Collection.objects.named(alice, "Valley")
    valley.add([old, fp4])
    three_days_ago = timezone.localdate() - timedelta(days=3)
    for query, images in {
        "q=FOX+gold": [],
        "q=fox+golden": [fox],
        "q=7": [fox],
        "seed=7": [fox],
        "seed=7&q=golden": [fox],
        "q=fog": [foggy],
        "lora=fog": [foggy],
        "engine=fp4": [fp4],
        f"from={three_days_ago}&to={three_days_ago}": [old],
        f"to={three_days_ago}": [old],
        f"from={three_days_ago}&engine=fp4": [fp4],
        "favourite=1": [loved],
        f"collection={valley.pk}": [fp4, old],
        f"collection={valley.pk}&q=star": [fp4, old],
        f"collection={valley.pk}&q=star&engine=fp4": [fp4],
        f"collection={valley.pk}&to={three_days_ago}": [old],
        "favourite=1&q=star": [loved],
        "favourite=1&q=fox": [],
    }.items():
        assert shown(client, f"/gallery/?{query}") == [str(image.pk) for image in images], query


def test_filters_are_chips_that_can_be_taken_away_one_by_one(client: Client, alice: User) -> None:
    picture(alice, seed=5)
    html = page(client, "/gallery/?q=star&engine=bf16&seed=5")
    assert 'href="/gallery/?q=star&amp;seed=5" aria-label="Remove the filter BF16"' in html
    assert 'href="/gallery/?q=star&amp;engine=bf16" aria-label="Remove the filter Seed 5"' in html
    assert 'name="engine" value="bf16"' in html  # the search keeps the other filters


def test_the_picture_page_stays_among_what_was_found(client: Client, alice: User) -> None:
    older, between, newer = picture(alice, "a fox"), picture(alice, "a star"), picture(alice, "a fox")
    assert f'href="/images/{newer.pk}/?q=fox"' in page(client, "/gallery/?q=fox")
    html = page(client, f"/images/{newer.pk}/?q=fox")
    assert f"/images/{older.pk}/?q=fox" in html
    assert str(between.pk) not in html


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("engine=sdxl", "as the engine"),
        ("seed=x", "Use a whole number from 0 to"),
        ("seed=-1", "Use a whole number from 0 to"),
        (f"seed={10**30}", "Use a whole number from 0 to"),
        ("from=yesterday", "Write the first day as"),
        ("to=2026-02-31", "Write the last day as"),
        ("from=1066-01-01", "Use a date from 2020 to 2088"),
        ("to=9999-12-31", "Use a date from 2020 to 2088"),
        ("from=2026-11-02&to=2026-11-01", "The last day is before the first"),
        ("lora=none", "No LoRA of yours has this name"),
        ("collection=x", "You have no such collection"),
        (f"q={'a' * 500}", "at most 400 characters"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_in_a_sentence(client: Client, query: str, sentence: str) -> None:
    for path in ("/gallery/", "/trash/"):
        html = page(client, f"{path}?{query}", 400)
        assert sentence in html
        assert "Clear filters" in html


def test_what_is_somebody_elses_is_no_filter(client: Client, bob: User, charlie: User) -> None:
    valley = Collection.objects.named(bob, "Valley")
    add(charlie, name="Fog")
    assert "You have no such collection" in page(client, f"/gallery/?collection={valley.pk}", 400)
    assert "No LoRA of yours" in page(client, "/gallery/?lora=fog", 400)


def test_an_address_says_the_filters_again(alice: User) -> None:
    query = "q=star&engine=fp4&seed=0&from=2026-11-01&to=2026-11-05&favourite=1"
    form = FilterForm(alice, dict(pair.split("=") for pair in query.split("&")))
    assert form.is_valid()
    assert Filters.of(form).url() == f"/gallery/?{query}"
    assert Filters.of(form, trash=True).url(seed=None, until=None) == (
        "/trash/?q=star&engine=fp4&from=2026-11-01&favourite=1"
    )


@pytest.mark.parametrize("before", ["", "x", "-1", "²", str(LAST_MOMENT + 1), "1" * 60])
def test_what_is_no_moment_has_no_page(client: Client, before: str) -> None:
    page(client, f"/gallery/?before={before}", 404)


# Lists -------------------------------------------------------------------------------------------------


def test_pages_of_a_filter_go_on_with_it(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generation.gallery_page.PAGE", 2)
    images = [picture(alice, f"a {'fox' if number % 2 else 'star'}") for number in range(6)]
    foxes = [str(image.pk) for image in reversed(images) if "fox" in image.job.prompt]
    first = page(client, "/gallery/?q=fox")
    address = first.partition('id="more" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert shown(client, "/gallery/?q=fox") + shown(client, address) == foxes
    assert 'id="more"' not in page(client, address)


def test_a_day_is_counted_whole_though_a_page_shows_a_part(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generation.gallery_page.PAGE", 2)
    for days_ago in (1, 0, 0, 0):
        picture(alice, days_ago=days_ago)
    for path in ("/gallery/", page(client, "/gallery/").partition('id="more" href="')[2].partition('"')[0]):
        assert '<h2>Today</h2><span class="meta">3 pictures</span>' in page(client, path)
    assert '<h2>Yesterday</h2><span class="meta">1 picture</span>' in page(client, path)


def test_counts_say_how_many_of_how_many(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        picture(alice, f"a {'fox' if number else 'star'}")
    assert '<span class="total" id="total">3 pictures</span>' in page(client, "/gallery/")
    assert '<span class="total" id="total">2 of 3</span>' in page(client, "/gallery/?q=fox")
    monkeypatch.setattr("generation.gallery_page.MOST_FOUND", 1)
    monkeypatch.setattr("generation.gallery_page.MOST_IN_ALL", 2)
    assert "1+ of 2+" in page(client, "/gallery/?q=fox")


def test_no_match_names_the_filters(client: Client, alice: User) -> None:
    picture(alice)
    html = page(client, "/gallery/?q=lighthouse&engine=fp4")
    assert "“lighthouse” with FP4" in html
    assert "Clear filters" in html


def test_the_trash_is_a_list_of_its_own(client: Client, alice: User) -> None:
    kept, thrown = picture(alice), picture(alice)
    Image.objects.filter(pk=thrown.pk).trash()
    assert shown(client, "/gallery/") == [str(kept.pk)]
    assert shown(client, "/trash/") == shown(client, "/trash/?q=star") == [str(thrown.pk)]
    assert "heart" not in page(client, "/trash/").partition('id="gallery"')[2].partition("</section>")[0]
    assert read(client.get(f"/images/{thrown.pk}/thumbnail/")).startswith(b"RIFF")


def test_an_empty_trash_says_so(client: Client) -> None:
    assert "The trash is empty" in page(client, "/trash/")


def test_what_others_drew_is_in_no_list(client: Client, bob: User, charlie: User) -> None:
    for owner in (bob, charlie):
        picture(owner)
    for path in ("/gallery/", "/gallery/?q=star", "/gallery/?engine=bf16", "/trash/"):
        assert shown(client, path) == []


def test_names_are_text_everywhere(client: Client, alice: User) -> None:
    attack = "<script>alert(1)</script>\"' onload='x"
    picture(alice, attack)
    valley = Collection.objects.named(alice, attack)
    for path in (
        "/gallery/", "/gallery/?q=<script>alert(1)</script>", f"/gallery/?collection={valley.pk}",
        "/collections/", f"/collections/{valley.pk}/",
    ):  # fmt: skip
        html = page(client, path)
        assert "<script>alert" not in html
        assert "onload='x" not in html


# What it costs -----------------------------------------------------------------------------------------


def fill(job: Job, count: int) -> None:
    """More pictures in a job, without files."""
    first = vars(job.images.get())
    own = {name: first[name] for name in first if name not in ("_state", "id", "index", "moment")}
    Image.objects.bulk_create(Image(**own, index=number) for number in range(1, count))


def test_a_full_page_is_small_and_asks_hardly_more_often_than_a_page_of_one(
    client: Client, alice: User, django_assert_max_num_queries: Any
) -> None:
    job = finished(alice, prompt="a long prompt that goes on and on " * 20)
    with django_assert_max_num_queries(100) as few:
        page(client, "/gallery/?q=prompt")
    fill(job, 200)
    # Two more: what goes on on the next page is counted, and so is the last day of this one.
    with django_assert_max_num_queries(len(few) + 2):
        html = page(client, "/gallery/?q=prompt")
    assert html.count("<li data-bytes") == 60
    assert len(html) < 150_000


def test_a_moment_is_of_the_day_of_the_studio(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    with timezone.override("Asia/Tokyo"):
        tokyo = moment_of_day(date(2026, 11, 25))
    with timezone.override("UTC"):
        assert tokyo < moment_of_day(date(2026, 11, 25))
