"""Every address of the product, walked as its owner, as others, and as nobody."""

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from generation.models import Collection, Job
from gpu.models import Worker
from loras.library import set_preview
from tests.generation.drawn import finished
from tests.loras.test_uploads import add

# What people reach without an account.
OPEN = {
    "healthz", "login/", "logout/", "setup/<str:token>/",
    "api/v1/schema/", "api/v1/docs/", "api/v1/redoc/",
    "v1/images/files/<str:token>",  # signed
}  # fmt: skip
# Everybody sees workers and engines; who is no administrator is told that only they may change them.
ADMINISTRATORS = {
    "workers/<uuid:pk>/mode/", "workers/engines/<str:engine>/mode/",
    "api/v1/workers/<uuid:pk>/mode/", "api/v1/engines/<str:name>/mode/",
}  # fmt: skip
SHARED = {"api/v1/workers/<uuid:pk>/"}


def addresses(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """The patterns of all addresses but the admin's, such as ``images/<uuid:pk>/``."""
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route
        elif not route.startswith("admin/"):
            yield from addresses(entry, route)


PRIVATE = sorted(set(addresses(get_resolver())) - OPEN)
OWNED = [
    route
    for route in PRIVATE
    if re.search("<uuid:pk>|<slug:slug>", route) and route not in ADMINISTRATORS | SHARED
]
# OpenAI's clients send tokens, never a session.
BY_SESSION = [route for route in PRIVATE if not route.startswith("v1/") and route not in ADMINISTRATORS]


@pytest.fixture
def job(alice: User) -> Job:
    """A job that is over. Its owner has a LoRA and a collection, too, and there is a worker."""
    Collection.objects.create(owner=alice, name="Stars")
    Worker.start("host", "cpu", "bf16", 1)
    set_preview(add(alice, name="Fog"), ContentFile(b"RIFF....WEBP"))
    return finished(alice)


def path(route: str, job: Job) -> str:
    pk: UUID = job.pk
    for part, rows in (
        ("images/", job.images),
        ("collections/", Collection.objects),
        ("workers/", Worker.objects),
    ):
        if part in route:
            pk = rows.get().pk
    route = route.replace("<uuid:pk>", str(pk)).replace("<slug:slug>", "fog")
    route = re.sub("<(str|path):(name|engine)>", "bf16", route)
    route = re.sub(r"\^?(.*)\(\?P<rest>.*", r"\1nothing", route)
    return f"/{route}?ids={pk}" if route.endswith("jobs/status/") else f"/{route}"


def answer(client: Client, route: str, job: Job) -> int:
    """The status of a GET, or else of a POST or a PUT where only that is taken."""
    response = client.get(path(route, job))
    if response.streaming:
        assert b"".join(getattr(response, "streaming_content"))  # noqa: B009 (the stubs do not know it)
    for method in (client.post, client.put):
        if response.status_code == 405:
            response = method(path(route, job), {}, "application/json")
    return response.status_code


def test_the_walk_finds_the_addresses() -> None:
    assert {"", "gallery/", "images/<uuid:pk>/file/", "api/v1/jobs/<uuid:pk>/"} <= set(PRIVATE)
    assert len(OWNED) >= 10


@pytest.mark.parametrize("route", PRIVATE)
def test_nobody_gets_in_without_an_account(client: Client, job: Job, route: str) -> None:
    response = client.get(path(route, job))
    if re.match("\\^?(api|v1)/", route):
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


@pytest.mark.parametrize("route", sorted(ADMINISTRATORS))
def test_what_administrators_do_is_refused_to_others(
    client: Client, alice: User, job: Job, route: str
) -> None:
    client.force_login(alice)
    assert answer(client, route, job) == 403


@pytest.mark.parametrize("route", BY_SESSION)
def test_its_owner_gets_an_answer(client: Client, alice: User, job: Job, route: str) -> None:
    client.force_login(alice)
    # 409: the job that the walk wants to cancel is over. 400: there is no file, or no picture is named.
    nothing_sent = re.search("inspect|upload|collections/.*/(add|remove)/", route)
    nothing_there = 404 if "<rest>" in route else 409
    assert answer(client, route, job) in (200, 201, 302, 400 if nothing_sent else nothing_there)
