"""Every address of the product, walked by nobody, by others, by an administrator and by its owner."""

import pytest
from django.http import HttpResponseBase
from django.test import Client
from django.test.client import MULTIPART_CONTENT

from accounts.models import User
from generation.models import Collection, Image, Job, ShareLink
from loras.models import Lora
from tests import addresses
from tests.addresses import folder_of, path
from tests.belongings import everything_of

# What people reach without an account: how the address begins.
OPEN = (
    "healthz", "readyz", "metrics", "login/", "logout/", "setup/", "invite/", "s/",
    "api/v1/schema/", "api/v1/docs/", "api/v1/redoc/", "v1/images/files/",
)  # fmt: skip
# What is no use to who is logged in: it is set up, and a token is wanted.
REFUSED = {"setup": 404, "metrics": 401, "v1": 401}
# What is somebody's alone. Of LoRAs an administrator sees all.
OWNED = {"jobs", "images", "collections", "shares", "loras", "account/tokens", "me/tokens"}
SEEN_BY_ADMINISTRATORS = {"loras"}
# Everybody sees workers and engines; who is no administrator is told that only they may change them.
ADMINISTRATORS = (
    "workers/<uuid:pk>/mode/",
    "workers/engines/<str:engine>/mode/",
    "api/v1/workers/<uuid:pk>/mode/",
    "api/v1/engines/<str:name>/mode/",
    "account/people/",
    "account/invitations/",
)
# What these pages want to know in a POST.
POSTED = {"mode": "pause"}
METHODS = ("get", "post", "put", "patch", "delete")

ROUTES = sorted(set(addresses.routes()))


@pytest.fixture
def objects(alice: User) -> dict[str, str]:
    return everything_of(alice)


@pytest.fixture
def administrator(db: None) -> User:
    return User.objects.create_superuser("root", password="correct horse battery")


def browser(user: User | None = None) -> Client:
    client = Client(raise_request_exception=False)
    if user:
        client.force_login(user)
    return client


def answer(client: Client, address: str) -> HttpResponseBase:
    """That to a GET, or to a POST or PUT where only that is taken; read to its end."""
    response: HttpResponseBase = client.get(address)
    for send in (client.post, client.put):
        if response.status_code == 405:
            of_api = address.startswith("/api/") or send == client.put
            response = send(address, POSTED, content_type="application/json" if of_api else MULTIPART_CONTENT)
    if response.streaming:
        b"".join(getattr(response, "streaming_content"))  # noqa: B009 (the stubs do not know it)
    return response


def is_open(route: str) -> bool:
    return route.startswith(OPEN)


def is_for_administrators(route: str) -> bool:
    return route.startswith(ADMINISTRATORS)


def test_the_walk_finds_the_addresses() -> None:
    assert {"", "gallery/", "images/<uuid:pk>/file/", "api/v1/jobs/<uuid:pk>/"} <= set(ROUTES)
    assert sum(folder_of(route) in OWNED for route in ROUTES) >= 10


def test_what_an_address_stands_for_must_be_known() -> None:
    assert path("api/v1/jobs/<uuid:pk>/cancel/", {"jobs": "7"}) == "/api/v1/jobs/7/cancel/"
    assert path("s/<str:token>/<uuid:pk>/file", {"s": "a:b", "s/<token>": "7"}) == "/s/a:b/7/file"
    with pytest.raises(AssertionError, match='Add "rooms/<number>/chairs" to what everything_of'):
        path("rooms/<int:number>/chairs/<slug:name>/", {"rooms": "1"})


@pytest.mark.parametrize("route", [route for route in ROUTES if not is_open(route)])
def test_nobody_gets_in_without_an_account(objects: dict[str, str], route: str) -> None:
    response = browser().get(path(route, objects))
    if route.startswith(("api/", "v1/")):
        assert response.status_code == 401
    else:
        assert response.status_code == 302, f"{route} answers {response.status_code} to nobody"
        assert response["Location"].startswith("/login/")


@pytest.mark.parametrize("route", [route for route in ROUTES if folder_of(route) in OWNED])
def test_what_is_not_yours_is_not_there(
    objects: dict[str, str], bob: User, charlie: User, administrator: User, route: str
) -> None:
    others = [bob, charlie]
    if folder_of(route) not in SEEN_BY_ADMINISTRATORS:
        others.append(administrator)
    before = everything()
    for other in others:
        client, address = browser(other), path(route, objects)
        assert answer(client, address).status_code == 404, f"{route} is there for {other}"
        for method in METHODS:
            status = getattr(client, method)(address, POSTED, content_type="application/json").status_code
            assert status in (404, 405), f"{method.upper()} {route} by {other} gets {status}"
    assert everything() == before


def everything() -> list[list[object]]:
    """All that somebody could change or delete."""
    return [
        list(Job.objects.order_by("pk").values()),
        list(Image.objects.order_by("pk").values()),
        list(Collection.objects.order_by("pk").values()),
        list(ShareLink.objects.order_by("pk").values()),
        list(Lora.objects.order_by("pk").values()),
    ]


@pytest.mark.parametrize("route", [route for route in ROUTES if is_for_administrators(route)])
def test_what_administrators_do_is_refused_to_others(
    objects: dict[str, str], alice: User, administrator: User, route: str
) -> None:
    assert answer(browser(alice), path(route, objects)).status_code in (403, 404)
    assert answer(browser(administrator), path(route, objects)).status_code < 400


@pytest.mark.parametrize("route", [route for route in ROUTES if not is_for_administrators(route)])
def test_its_owner_gets_an_answer(objects: dict[str, str], alice: User, route: str) -> None:
    response = answer(browser(alice), path(route, objects))
    if not route.startswith("v1/images/files/") and route.partition("/")[0] in REFUSED:
        assert response.status_code == REFUSED[route.partition("/")[0]]
        return
    # 409: the job that the walk wants to cancel is over. 400: there is no file, or nothing was said.
    assert response.status_code in (200, 201, 204, 302, 400, 409), (
        f"{route} answers {response.status_code} to its owner. "
        "If only administrators may, add it to ADMINISTRATORS here."
    )
    assert is_open(route) or not response.headers.get("Location", "").startswith("/login/")
