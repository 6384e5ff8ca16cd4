"""PostgreSQL takes no null character in a text, so nothing that people send may carry one to it."""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import User
from generation import png_metadata
from generation.models import Job
from generation.png_metadata import RecipeLora
from loras.models import Lora
from tests import addresses
from tests.belongings import everything_of
from tests.conftest import client_of
from tests.generation.test_settings_from_picture import ADDRESS, PIXELS, RECIPE
from tests.generation.test_views import browser_of

SENTENCE = "Null characters are not allowed"
QUERIES = ("q", "tag", "engine", "lora", "search", "collection", "username", "next", "nonsense")


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", password="correct horse battery")


def test_no_address_takes_one_in_its_query(root: User) -> None:
    everything = everything_of(root)
    walked = [addresses.path(route, everything) for route in addresses.routes()]
    client = Client(raise_request_exception=False)
    client.force_login(root)
    for address in [*walked, *addresses.admin_paths()]:
        for sent in [{name: "a\x00b"} for name in QUERIES] + [{"a\x00b": "1"}]:
            answer = client.get(address, sent)
            assert answer.status_code == 400, f"{address} answers {answer.status_code} to {sent}"
            assert SENTENCE in answer.content.decode()


def test_no_address_takes_one_in_its_path(root: User) -> None:
    everything = dict.fromkeys(everything_of(root), "a\x00b")
    walked = {addresses.path(route, everything) for route in addresses.routes()}
    client = Client(raise_request_exception=False)
    client.force_login(root)
    for address in (*walked, "/static/css/a\x00.css", "/static/a\x00/../b", "/admin/a\x00/"):
        if "\x00" in address:
            assert client.get(quote(address)).status_code == 400, address


def test_each_interface_says_so_in_its_own_shape(alice: User) -> None:
    ours = client_of(alice).get("/api/v1/loras/?search=%00").json()
    assert ours == {
        "type": "client_error",
        "errors": [{"code": "null_characters", "detail": f"{SENTENCE} in an address.", "attr": None}],
    }
    theirs = client_of(alice).get("/v1/models/x%00").json()["error"]
    assert (theirs["type"], theirs["code"]) == ("invalid_request_error", "null_characters")
    page = browser_of(alice).get("/loras/?q=%00")
    assert page["Content-Type"].startswith("text/html")
    assert "Content-Security-Policy" in page


def test_what_only_looks_like_one_is_taken(alice: User) -> None:
    assert browser_of(alice).get("/loras/?q=%2500").status_code == 200


@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("post", "/api/v1/jobs/", {"prompt": "a", "loras": [{"slug": "a\x00"}]}),
        ("post", "/api/v1/jobs/", {"prompt": "a", "engine": "a\x00"}),
        ("patch", "/api/v1/loras/fog/", {"trigger_words": ["a\x00"]}),
        ("patch", "/api/v1/loras/fog/", {"groups": ["a\x00"]}),
        ("patch", "/api/v1/loras/fog/", {"visibility": "a\x00"}),
        ("post", "/api/v1/collections/", {"name": "a\x00"}),
        ("post", "/v1/images/generations", {"prompt": "a\x00"}),
        ("post", "/v1/images/generations", {"prompt": "a", "model": "fluxsite-demo:a\x00"}),
        ("post", "/v1/images/generations", {"prompt": "a", "model": "a\x00"}),
        ("post", "/v1/images/generations", {"prompt": "a", "loras": [{"name": "a\x00"}]}),
    ],
)
def test_the_api_takes_none_in_a_body(alice: User, method: str, address: str, body: dict[str, Any]) -> None:
    everything_of(alice)
    answer = getattr(client_of(alice), method)(address, body, format="json")
    assert answer.status_code in (400, 404), answer.content


@pytest.mark.parametrize(
    ("address", "fields"),
    [
        ("/", {"prompt": "a", "lora": "a\x00"}),
        ("/", {"prompt": "a\x00"}),
        ("/loras/fog/", {"name": "a\x00"}),
        ("/loras/fog/", {"name": "a", "recommended_weight": "1", "visibility": "private", "tags": "a\x00"}),
        ("/account/profile/", {"first_name": "a\x00"}),
        ("/login/", {"username": "a\x00", "password": "a\x00"}),
        ("/login/", {"username": "alice", "password": "a\x00"}),
        ("/pictures/collect/", {"image": "a\x00", "collection": "a\x00", "name": "a\x00"}),
    ],
)
def test_the_pages_take_none_in_a_form(alice: User, address: str, fields: dict[str, str]) -> None:
    everything_of(alice)
    jobs = Job.objects.count()
    client = Client(raise_request_exception=False)
    if address != "/login/":
        client.force_login(alice)
    assert client.post(address, fields).status_code in (200, 400, 404)
    assert Job.objects.count() == jobs
    assert "a\x00" not in Lora.objects.get().tags


def test_a_picture_with_some_gives_what_can_be_had(alice: User) -> None:
    loras = (RecipeLora("a\x00", "a\x00", "0" * 64, 1.0),)
    png = png_metadata.encoded(PIXELS, replace(RECIPE, loras=loras))
    sent = {"picture": SimpleUploadedFile("x.png", png, "image/png")}
    answer = browser_of(alice).post(ADDRESS, sent)
    assert answer.status_code == 200
    assert "not in the library" in answer.content.decode()
