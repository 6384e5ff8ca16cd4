"""Pictures by API: lists that are filtered and go on, favourites, the trash, and recipes that draw again."""

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from generation.api.filters import ImageFilter
from generation.gallery_filters import Filters
from generation.models import Collection, Image, Job
from loras import library
from tests.conftest import client_of, submit
from tests.generation.drawn import draw, finished

IMAGES = "/api/v1/images/"


def listed(user: User, query: str = "") -> list[str]:
    response = client_of(user).get(f"{IMAGES}?{query}")
    assert response.status_code == 200, response.content
    return [image["id"] for image in response.json()["results"]]


def picture(owner: User, **asked: Any) -> Image:
    return finished(owner, **asked).images.get()


def test_a_list_goes_on_by_cursor_both_ways(alice: User) -> None:
    made = [str(picture(alice).pk) for _ in range(5)][::-1]
    client = client_of(alice)
    first = client.get(f"{IMAGES}?limit=2").json()
    second = client.get(first["next"]).json()
    third = client.get(second["next"]).json()
    pages = [[image["id"] for image in page["results"]] for page in (first, second, third)]
    assert pages == [made[:2], made[2:4], made[4:]]
    assert (first["previous"], third["next"]) == (None, None)
    back = client.get(third["previous"]).json()
    assert [image["id"] for image in back["results"]] == made[2:4]


def test_each_filter_finds_its_pictures_and_together_they_narrow(alice: User, bob: User) -> None:
    night, outline = sorted(library.add_demo_loras(), key=lambda lora: lora.slug)
    star = picture(alice, prompt="a yellow star", loras=[(night, 1.0)])
    ring = picture(alice, prompt="two yellow rings", engine="fp4", seed=77)
    picture(bob, prompt="a yellow star")
    shelf = Collection.objects.create(owner=alice, name="Stars")
    shelf.add([star])
    Image.objects.filter(pk=ring.pk).mark(favourite=True)
    found = {
        "search=star": [star],
        "search=yellow": [ring, star],
        "search=77": [ring],
        "search=yellow+nothing": [],
        "engine=fp4": [ring],
        f"lora={night.slug}": [star],
        f"lora={outline.slug}": [],
        f"collection={shelf.pk}": [star],
        f"collection={shelf.pk}&search=yellow": [star],
        f"collection={shelf.pk}&engine=fp4": [],
        "favourite=true": [ring],
        "favourite=false": [star],
        "search=yellow&favourite=true": [ring],
        "trashed=true": [],
    }
    for query, pictures in found.items():
        assert listed(alice, query) == [str(each.pk) for each in pictures], query


# What the API is sent, and what the gallery calls it.
WHERE: dict[str, Any] = {
    "all": lambda _: ({}, {}),
    "trash": lambda _: ({"trashed": True}, {"trash": True}),
    "favourites": lambda _: ({"favourite": True}, {"favourite": True}),
    "collection": lambda stars: ({"collection": stars.pk}, {"collection": stars}),
}


@pytest.mark.parametrize("where", WHERE)
def test_a_list_is_looked_for_as_the_gallery_does(alice: User, where: str) -> None:
    """Where few of a million are looked at, another way is the quick one: see ``generation.search``."""
    stars = Collection.objects.named(alice, "Stars")
    sent, meant = WHERE[where](stars)
    checked = ImageFilter(data={"search": "star", "engine": "bf16", **sent})
    assert checked.is_valid(), checked.errors
    gallery = Filters(q="star", engine="bf16", **meant)
    assert str(checked.images_of(alice).query) == str(gallery.images(alice).query)


def test_a_search_goes_on_by_cursor(alice: User) -> None:
    made = [str(picture(alice, prompt="a star").pk) for _ in range(3)][::-1]
    client = client_of(alice)
    first = client.get(f"{IMAGES}?search=star&limit=2").json()
    rest = client.get(first["next"]).json()
    assert [image["id"] for page in (first, rest) for image in page["results"]] == made


def test_times_bound_a_list(alice: User) -> None:
    image = picture(alice)
    hour = timedelta(hours=1)
    before, after = ((timezone.now() + each).strftime("%Y-%m-%dT%H:%M:%SZ") for each in (-hour, hour))
    assert listed(alice, f"since={before}&until={after}") == [str(image.pk)]
    assert listed(alice, f"since={after}") == listed(alice, f"until={before}") == []


@pytest.mark.parametrize(
    ("query", "attr", "says"),
    [
        ("engine=fp16", "engine", "fp16"),
        ("lora=nowhere", "lora", "There is no LoRA nowhere that you may see."),
        ("collection=01937f6e-8f0a-7c3e-9d52-0a4b6f1c2d3e", "collection", "You have no such collection."),
        ("collection=1", "collection", "UUID"),
        ("since=9999-12-31T00:00:00Z", "since", "Use a time from 2020 to 2089."),
        ("until=yesterday", "until", "Datetime has wrong format"),
        ("favourite=perhaps", "favourite", "boolean"),
        ("limit=0", "limit", "Use a whole number from 1 to 200."),
        ("limit=201", "limit", "Use a whole number from 1 to 200."),
        ("limit=00000000199999", "limit", "Use a whole number from 1 to 200."),
        (f"limit={'9' * 5000}", "limit", "Use a whole number from 1 to 200."),
        ("limit=all", "limit", "Use a whole number from 1 to 200."),
    ],
)
def test_a_filter_that_cannot_be_is_refused(alice: User, query: str, attr: str, says: str) -> None:
    response = client_of(alice).get(f"{IMAGES}?{query}")
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert error["attr"] == attr
    assert says in error["detail"]


@pytest.mark.parametrize("address", [IMAGES, "/api/v1/jobs/", "/api/v1/loras/", "/api/v1/collections/"])
@pytest.mark.parametrize("cursor", ["p=abc", "p=-1", f"p={2**64}", "p=", "r=x&p=1", "o=-1", "p=%C3%A4"])
def test_a_cursor_that_nobody_was_given_leads_nowhere(alice: User, address: str, cursor: str) -> None:
    encoded = base64.b64encode(cursor.encode()).decode()
    response = client_of(alice).get(address, {"cursor": encoded})
    assert response.status_code == 404, response.content


def test_favourites_come_and_go(alice: User) -> None:
    address, client = f"{IMAGES}{picture(alice).pk}/favourite/", client_of(alice)
    for _ in range(2):
        assert client.put(address).json()["favourite"] is True
    for _ in range(2):
        assert client.delete(address).json()["favourite"] is False


def test_the_trash_gives_back(alice: User) -> None:
    image, client = picture(alice), client_of(alice)
    address = f"{IMAGES}{image.pk}/"
    assert client.post(f"{address}trash/").json()["trashed_at"] is not None
    assert (listed(alice), listed(alice, "trashed=true")) == ([], [str(image.pk)])
    assert client.get(address).status_code == 200
    assert client.post(f"{address}restore/").json()["trashed_at"] is None
    assert listed(alice) == [str(image.pk)]


def test_deleting_frees_the_files(alice: User, media: Path, django_capture_on_commit_callbacks: Any) -> None:
    image, client = picture(alice), client_of(alice)
    files = [media / str(image.file), media / str(image.thumbnail)]
    assert all(file.exists() for file in files)
    with django_capture_on_commit_callbacks(execute=True):
        assert client.delete(f"{IMAGES}{image.pk}/").status_code == 204
    assert not any(file.exists() for file in files)
    assert client.get(f"{IMAGES}{image.pk}/").status_code == 404


def test_a_recipe_is_a_request_that_draws_it_again(alice: User) -> None:
    loras = library.add_demo_loras()
    job = submit(alice, seed=5, count=2, loras=[(loras[1], 0.5), (loras[0], -0.25)])
    second = draw(job, index=1)
    client = client_of(alice)
    recipe = client.get(f"{IMAGES}{second.pk}/recipe/").json()
    assert (recipe["seed"], recipe["count"]) == (6, 1)
    again = client.post("/api/v1/jobs/", recipe, format="json")
    assert again.status_code == 201, again.content
    made = Job.objects.get(pk=again.json()["id"])
    assert (made.prompt, made.width, made.seed, made.lora_set) == (job.prompt, job.width, 6, job.lora_set)
    assert [each.weight for each in made.job_loras.all()] == [0.5, -0.25]
