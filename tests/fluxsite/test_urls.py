"""Every address of the product, walked as its owner, as others, and as nobody."""

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from generation.models import Collection, Job, ShareLink
from loras.library import set_preview
from tests.generation.drawn import finished
from tests.loras.test_uploads import add

# What people reach without an account.
OPEN = {"healthz", "login/", "logout/", "setup/<str:token>/", "s/<path:rest>"}
# And with a link that somebody sent them: see tests/generation/test_shares.py.
SHARED = {
    "s/<str:token>/", "s/<str:token>/all.zip", "s/<str:token>/<uuid:pk>/", "s/<str:token>/<uuid:pk>/file",
    "s/<str:token>/<uuid:pk>/thumbnail",
}  # fmt: skip
# Everybody sees workers and engines; who is no administrator is told that only they may change them.
ADMINISTRATORS = {"workers/<uuid:pk>/mode/", "workers/engines/<str:engine>/mode/"}


def addresses(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """The patterns of all addresses but the admin's, such as ``images/<uuid:pk>/``."""
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route
        elif not route.startswith("admin/"):
            yield from addresses(entry, route)


PRIVATE = sorted(set(addresses(get_resolver())) - OPEN - SHARED)
OWNED = [
    route for route in PRIVATE if re.search("<uuid:pk>|<slug:slug>", route) and route not in ADMINISTRATORS
]


@pytest.fixture
def job(alice: User) -> Job:
    """A job that is over. Its owner has a LoRA, a collection and a link to its picture, too."""
    Collection.objects.create(owner=alice, name="Valley")
    set_preview(add(alice, name="Fog"), ContentFile(b"RIFF....WEBP"))
    job = finished(alice)
    ShareLink.to(alice, [job.images.get()])
    return job


def path(route: str, job: Job) -> str:
    pk: UUID = job.pk
    if "images/" in route:
        pk = job.images.get().pk
    elif "shares/" in route:
        pk = ShareLink.objects.get().pk
    elif "collections/" in route:
        pk = Collection.objects.get().pk
    return "/" + route.replace("<uuid:pk>", str(pk)).replace("<slug:slug>", "fog")


def answer(client: Client, route: str, job: Job) -> int:
    """The status of a GET, or of a POST where only that is taken."""
    response = client.get(path(route, job))
    if response.streaming:
        assert b"".join(getattr(response, "streaming_content"))  # noqa: B009 (the stubs do not know it)
    if response.status_code != 405:
        return response.status_code
    return client.post(path(route, job), {"name": "Walked"}).status_code


def test_the_walk_finds_the_addresses() -> None:
    assert {"", "gallery/", "images/<uuid:pk>/file/", "api/v1/jobs/<uuid:pk>/"} <= set(PRIVATE)
    assert len(OWNED) >= 10


@pytest.mark.parametrize("route", PRIVATE)
def test_nobody_gets_in_without_an_account(client: Client, job: Job, route: str) -> None:
    response = client.get(path(route, job))
    if route.startswith("api/"):
        assert response.status_code == 401
    else:
        assert response.status_code == 302
        assert response["Location"].startswith("/login/")


@pytest.mark.parametrize("route", OWNED)
def test_what_is_not_yours_is_not_there(
    client: Client, job: Job, bob: User, charlie: User, route: str
) -> None:
    for other in (bob, charlie):
        client.force_login(other)
        assert answer(client, route, job) == 404
    job.refresh_from_db()
    assert job.cancel_requested_at is None


@pytest.mark.parametrize("route", sorted(SHARED))
def test_a_link_is_open_to_all_and_a_made_up_one_to_nobody(
    client: Client, alice: User, job: Job, route: str
) -> None:
    link = ShareLink.objects.get()
    address = "/" + route.replace("<uuid:pk>", str(job.images.get().pk))
    assert answer(client, address[1:].replace("<str:token>", link.token), job) == 200
    client.force_login(alice)
    assert answer(client, address[1:].replace("<str:token>", link.token[:-1]), job) == 404


@pytest.mark.parametrize("route", sorted(ADMINISTRATORS))
def test_what_administrators_do_is_refused_to_others(
    client: Client, alice: User, job: Job, route: str
) -> None:
    client.force_login(alice)
    assert answer(client, route, job) == 403


@pytest.mark.parametrize("route", [route for route in PRIVATE if route not in ADMINISTRATORS])
def test_its_owner_gets_an_answer(client: Client, alice: User, job: Job, route: str) -> None:
    client.force_login(alice)
    # 409: the job that the walk wants to cancel is over. 400: there is no file, or no name.
    refused = 400 if re.search("inspect|upload|collections", route) else 409
    assert answer(client, route, job) in (200, 201, 302, refused)
