"""Every operation of the schema, with no token, an expired one, one that may only read, and another's."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiToken, User
from fluxsite.views import _schema
from tests.generation.api.test_schema import Studio

# Which scope another method than GET takes, by a part of the path; else generate.
SCOPES = {"/loras/": "loras", "/mode/": "admin"}


@pytest.fixture
def operations(alice: User) -> list[tuple[str, str]]:
    """Method and path of each, with something of alice's where the path names something."""
    ids = Studio(alice).ids()
    paths = json.loads(_schema())["paths"]
    return [
        (method, named(path, ids)) for path in paths for method in paths[path] if "files/" not in path
    ]  # fmt: skip


def named(path: str, ids: dict[str, str]) -> str:
    pk = next((pk for part, pk in ids.items() if f"/{part}/" in path), "")
    for parameter in ("{id}", "{slug}", "{name}"):
        path = path.replace(parameter, pk)
    return path


def token_of(user: User, *scopes: str) -> str:
    return ApiToken.issue(user, "test", scopes or list(ApiToken.SCOPES), timedelta(days=1))


def ask(method: str, path: str, token: str = "") -> Any:
    client = APIClient(raise_request_exception=False)
    if token:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    is_upload = method == "post" and path.endswith(("/loras/", "/inspect/"))
    options = {} if method == "get" else {"format": "multipart" if is_upload else "json"}
    response = getattr(client, method)(path, **options)
    if response.streaming:
        assert b"".join(response)
    return response


def sentence(response: Any) -> str:
    answer = response.json()
    return str(answer["error"]["message"] if "error" in answer else answer["errors"][0]["detail"])


def test_there_are_all_of_them(operations: list[tuple[str, str]]) -> None:
    assert len(operations) >= 35
    assert {"/api/v1/jobs/", "/v1/images/generations", "/v1/models"} <= {path for _, path in operations}


def test_no_token_and_an_expired_one_get_401(operations: list[tuple[str, str]], alice: User) -> None:
    expired = token_of(alice)
    ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    for token, says in (("", "not provided"), (expired, "This token has expired")):
        for operation in operations:
            response = ask(*operation, token)
            assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer"), operation
            assert says in sentence(response)


def test_a_token_that_reads_only_reads(operations: list[tuple[str, str]], alice: User) -> None:
    token = token_of(alice, "read")
    for method, path in operations:
        response = ask(method, path, token)
        if method == "get":
            # 400: no ids of jobs are named.
            assert response.status_code == (400 if path.endswith("/status/") else 200), path
        else:
            assert response.status_code == 403, (method, path)
            wanted = next((scope for part, scope in SCOPES.items() if part in path), "generate")
            assert f"lacks the scope {wanted}" in sentence(response)


def test_a_token_that_does_not_read_reads_nothing(operations: list[tuple[str, str]], alice: User) -> None:
    token = token_of(alice, "generate", "loras", "admin")
    for path in (path for method, path in operations if method == "get"):
        assert "lacks the scope read" in sentence(ask("get", path, token))


def test_anothers_token_finds_nothing(operations: list[tuple[str, str]], alice: User, charlie: User) -> None:
    token = token_of(charlie)
    somebodys = [each for each in operations if re.search("/(jobs|images|collections)/0|/loras/fog", each[1])]
    assert len(somebodys) >= 20
    for operation in somebodys:
        assert ask(*operation, token).status_code == 404, operation
    for name in ("jobs", "images", "collections", "loras"):
        assert ask("get", f"/api/v1/{name}/", token).json()["results"] == []
    names = [model["id"] for model in ask("get", "/v1/models", token).json()["data"]]
    assert "fluxsite-demo:fog" not in names
    assert ask("get", "/v1/models/fluxsite-demo:fog", token).status_code == 404
