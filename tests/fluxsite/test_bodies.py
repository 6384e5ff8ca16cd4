"""How long a body may be, and whether it may hold a file, is known before a byte of it is read."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as product
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory
from django.urls import resolve

from accounts.models import User
from files.bodies import file_limit
from fluxsite import bodies
from fluxsite.wsgi import application
from tests import addresses
from tests.belongings import everything_of
from tests.conftest import client_of

pytestmark = pytest.mark.django_db
MOST = product.DATA_UPLOAD_MAX_MEMORY_SIZE
# The routes that take a file, and the largest one.
WITH_FILE = {
    "/loras/upload/": 1_000_000_000,
    "/api/v1/loras/": 1_000_000_000,
    "/api/v1/loras/inspect/": 1_000_000_000,
    "/loras/fog/": 10_000_000,
    "/settings-from-picture/": 32_000_000,
}
# These answer 400 in words that clients show, whatever the body is; without a token, 401.
UNREAD = {"/v1/images/edits", "/v1/images/variations"}


class Body:
    """A body that must not be read."""

    def read(self, *args: Any) -> bytes:
        pytest.fail("the body was read")

    readline = read


def announce(client: Client, address: str, length: int | str, **extra: Any) -> Any:
    return client.generic("POST", address, **{"wsgi.input": Body(), "CONTENT_LENGTH": str(length), **extra})


def every_route(user: User) -> list[str]:
    everything = everything_of(user)
    walked = [addresses.path(route, everything) for route in addresses.routes()]
    return sorted({*walked, *addresses.admin_paths(), "/nowhere/"})


def test_only_the_routes_of_files_take_one(alice: User) -> None:
    taken = {}
    for address in every_route(alice):
        if address != "/nowhere/" and (limit := file_limit(resolve(address).func, "POST")):
            taken[address] = limit
    assert taken == WITH_FILE


def test_what_is_too_long_is_refused_unread_on_every_other_route(alice: User) -> None:
    """Even with a token of CSRF that the client made up itself, the check of which reads the form."""
    client = Client(enforce_csrf_checks=True, headers={"Cookie": f"csrftoken={'a' * 32}"})
    for address in every_route(alice):
        if address not in WITH_FILE:
            answer = announce(client, address, MOST + 1, CONTENT_TYPE="application/x-www-form-urlencoded")
            assert answer.status_code == (401 if address in UNREAD else 413), address


def test_nobody_without_an_account_has_a_file_read(alice: User) -> None:
    everything_of(alice)
    client = Client(enforce_csrf_checks=True, headers={"Cookie": f"csrftoken={'a' * 32}"})
    for address in WITH_FILE:
        answer = announce(client, address, MOST + 1, CONTENT_TYPE="multipart/form-data; boundary=x")
        assert answer.status_code in (302, 401, 413), address


@pytest.mark.parametrize(
    "address", ["/login/", "/", "/api/v1/jobs/", "/v1/images/generations", "/loras/upload/"]
)
def test_a_body_without_a_length_is_refused_with_a_sentence(alice: User, address: str) -> None:
    """Django takes it for an empty one: "Write a prompt"."""
    client = client_of(alice)
    answer = announce(client, address, "", HTTP_TRANSFER_ENCODING="chunked", CONTENT_TYPE="application/json")
    assert answer.status_code == 411
    assert "Send the length of the body: Content-Length." in answer.content.decode()


def test_each_interface_refuses_in_its_own_shape(alice: User) -> None:
    client = client_of(alice)
    (error,) = announce(client, "/api/v1/jobs/", MOST + 1).json()["errors"]
    assert (error["code"], error["detail"][:24]) == ("too_large", "The body is larger than ")
    assert announce(client, "/v1/images/generations", MOST + 1).json()["error"]["code"] == "too_large"
    assert announce(client, "/login/", MOST + 1)["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("address", ["/login/", "/account/profile/", "/"])
def test_a_file_on_a_route_that_takes_none_is_refused(
    alice: User, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    answer = client.post(address, {"prompt": "a", "file": SimpleUploadedFile("a.bin", b"a" * 1000)})
    assert answer.status_code == 400
    assert "takes no file" in answer.content.decode()


def test_a_form_without_a_file_may_be_multipart(alice: User) -> None:
    """Scripts send forms so, also with a field for a file that was left empty."""
    client = Client()
    client.force_login(alice)
    assert (
        client.post("/account/profile/", {"first_name": "Alice", "email": "alice@studio.example"}).status_code
        == 302
    )


def test_a_length_that_is_no_number_is_refused() -> None:
    request = RequestFactory().post("/login/")
    request.META["CONTENT_LENGTH"] = "-1"
    assert bodies.bound(lambda request: pytest.fail("answered"))(request).status_code == 411


HALF = "\ud800"


@pytest.mark.parametrize("bad", [HALF, "\0"])
@pytest.mark.parametrize(
    ("method", "address", "body", "field"),
    [
        ("post", "/api/v1/jobs/", {"prompt": "BAD"}, "prompt"),
        ("post", "/api/v1/jobs/", {"prompt": "a", "loras": [{"slug": "BAD"}]}, "loras.0.slug"),
        ("post", "/api/v1/jobs/", {"prompt": "a", "BAD": 1}, None),
        ("post", "/api/v1/jobs/", ["BAD"], "0"),
        ("post", "/api/v1/jobs/", "BAD", None),
        ("patch", "/api/v1/loras/fog/", {"visibility": "BAD"}, "visibility"),
        ("patch", "/api/v1/loras/fog/", {"groups": ["BAD"]}, "groups.0"),
        ("post", "/api/v1/collections/", {"name": "BAD"}, "name"),
        ("post", "/v1/images/generations", {"prompt": "a", "model": "BAD"}, "model"),
        ("post", "/v1/images/generations", {"prompt": "a", "response_format": "BAD"}, "response_format"),
        ("post", "/v1/images/generations", {"prompt": "a", "loras": [{"name": "BAD"}]}, "loras.0.name"),
        ("post", "/v1/images/generations", {"prompt": "a", "BAD": {"BAD": "BAD"}}, None),
    ],
)
def test_text_that_cannot_be_stored_is_refused_with_its_field(
    alice: User, method: str, address: str, body: Any, field: str | None, bad: str
) -> None:
    everything_of(alice)
    client = client_of(alice)
    client.raise_request_exception = False
    sent = json.dumps(body).replace("BAD", json.dumps(bad)[1:-1])
    answer = getattr(client, method)(address, sent, content_type="application/json")
    assert answer.status_code == 400, answer.content
    error = answer.json()
    told = error["error"]["param"] if "error" in error else error["errors"][0]["attr"]
    assert field is None or told == field
    said = ("Null" if bad == "\0" else "Surrogate") + " characters are not allowed"
    assert said in answer.content.decode()


def test_no_file_is_written_for_whoever_is_logged_out(tmp_path: Path, settings: Any, alice: User) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.cookies["csrftoken"] = "a" * 32
    for address in ("/login/", "/settings-from-picture/", "/loras/fog/", "/loras/upload/"):
        client.post(address, {"picture": SimpleUploadedFile("a.png", b"a" * 900_000)})
    assert list(tmp_path.iterdir()) == []


# Codecs of Python that make lone surrogates, or that are not for text.
CODECS = ["utf-7", "unicode_escape", "hex", "zip", "rot13", "idna", "undefined", "utf-16"]


@pytest.mark.parametrize("codec", CODECS)
def test_text_in_another_encoding_is_refused_in_bodies_and_query_strings(alice: User, codec: str) -> None:
    """Without an account it answered 500 and logged a whole trace."""
    form = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n+2AA- \\ud800\r\n--x--\r\n'
    requests: list[tuple[Client, str, str, bytes, str]] = [
        (Client(), "POST", "/login/", form, "multipart/form-data; boundary=x"),
        (client_of(alice), "POST", "/loras/upload/", form, "multipart/form-data; boundary=x"),
        (client_of(alice), "POST", "/v1/images/generations", b"{}", "application/json"),
    ]
    for client, method, address, body, kind in requests:
        client.raise_request_exception = False
        answer = client.generic(method, address, body, content_type=f"{kind}; charset={codec}")
        assert answer.status_code == 415, address
        assert "Send text as UTF-8" in answer.content.decode()


@pytest.mark.parametrize("codec", CODECS)
def test_a_query_string_in_another_encoding_is_refused_by_the_entry_point(codec: str) -> None:
    """Django's own request raises an error before the first middleware."""
    factory: Any = RequestFactory()
    environ = factory._base_environ(
        PATH_INFO="/api/v1/loras/",
        QUERY_STRING="search=%2B2AA-%5Cud800",
        CONTENT_TYPE=f"a/b; charset={codec}",
    )
    statuses: list[str] = []
    start: Any = lambda status, headers: statuses.append(status)  # noqa: E731
    answer = application(environ | {"HTTP_HOST": "localhost"}, start)
    assert statuses == ["415 Unsupported Media Type"]
    assert b"Send text as UTF-8" in b"".join(answer)
    answer.close()


@pytest.mark.parametrize("name", ["sessionid", "csrftoken", "messages"])
def test_a_null_character_in_a_cookie_is_refused(name: str) -> None:
    """PostgreSQL raised an error for one in the session's."""
    client = Client(raise_request_exception=False, headers={"Cookie": f'{name}="abcdefgh\\000ijkl"'})
    for address in ("/login/", "/gallery/", "/api/v1/me/", "/v1/models", "/healthz"):
        answer = client.get(address)
        assert answer.status_code == 400, address
        assert "not allowed in a cookie" in answer.content.decode()


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii"])
def test_a_client_may_say_that_it_sends_utf8(alice: User, charset: str) -> None:
    answer = client_of(alice).generic(
        "POST",
        "/api/v1/collections/",
        '{"name": "Fog"}',
        content_type=f"application/json; charset={charset}",
    )
    assert answer.status_code == 201, answer.content


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", ""])
def test_only_a_form_may_be_as_long_as_a_file(alice: User, kind: str) -> None:
    """DRF reads JSON of any length into memory."""
    everything_of(alice)
    client = client_of(alice)
    for address in WITH_FILE:
        assert announce(client, address, MOST + 1, CONTENT_TYPE=kind).status_code == 413, address


@pytest.mark.parametrize("length", ["9" * 5000, "\u0663", "+5", "1_0"])
def test_a_length_that_no_body_has_is_refused(length: str) -> None:
    request = RequestFactory().post("/login/")
    request.META["CONTENT_LENGTH"] = length
    assert bodies.bound(lambda request: pytest.fail("answered"))(request).status_code == 411
