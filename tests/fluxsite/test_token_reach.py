"""What a superuser's token reaches of other people's: nothing, unless it has the scope admin."""

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import ApiToken, User
from generation.models import Collection, Image, Job, ShareLink
from loras.models import Lora
from tests import addresses
from tests.addresses import folder_of, path
from tests.belongings import everything_of
from tests.conftest import asked

# Of a token that may do all that a person does with their own.
ALL_BUT_ADMIN = ("read", "generate", "loras")
ROUTES = sorted(route for route in set(addresses.routes()) if route.startswith(("api/v1/", "v1/")))
# Schema and documents show no row, and a link to a file is for whoever has it.
PUBLIC = ("api/v1/schema/", "api/v1/docs/", "api/v1/redoc/", "v1/images/files/")
OF_ONE_PERSON = [route for route in ROUTES if folder_of(route) in {"jobs", "images", "collections", "loras"}]
LISTS = [route for route in ROUTES if not folder_of(route) and not route.startswith(PUBLIC)]
METHODS = ("get", "post", "put", "patch", "delete")
NAME = "Zanzibar"


@pytest.fixture
def objects(charlie: User) -> dict[str, str]:
    return everything_of(charlie, NAME)


def client_with(owner: User, *scopes: str) -> APIClient:
    token = ApiToken.issue(owner, " ".join(scopes), scopes, timedelta(days=1))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def rows() -> list[list[Any]]:
    """All that somebody could change, publish or delete."""
    models = (Job, Image, Collection, ShareLink, Lora)
    return [list(model._default_manager.order_by("pk").values()) for model in models]


def test_the_walk_finds_the_operations() -> None:
    assert {"api/v1/loras/<slug:slug>/download/", "api/v1/images/<uuid:pk>/file/"} <= set(OF_ONE_PERSON)
    assert {"api/v1/loras/", "api/v1/jobs/", "api/v1/me/", "v1/models"} <= set(LISTS)


@pytest.mark.parametrize("scopes", [("read",), ALL_BUT_ADMIN], ids=["read", "all but admin"])
@pytest.mark.parametrize("route", OF_ONE_PERSON)
def test_without_the_scope_admin_others_rows_are_not_there(
    objects: dict[str, str], admin_user: User, route: str, scopes: tuple[str, ...]
) -> None:
    client, address, before = client_with(admin_user, *scopes), path(route, objects), rows()
    for method in METHODS:
        body = None if method == "get" else {"visibility": "everyone", "name": "Mine now"}
        answer = getattr(client, method)(address, body, format=None if method == "get" else "json")
        lacks_scope = answer.status_code == 403 and "lacks the scope" in str(answer.data)
        assert answer.status_code in (404, 405) or (lacks_scope and scopes == ("read",)), (
            f"{method.upper()} {route} answers {answer.status_code}"
        )
    assert rows() == before


@pytest.mark.parametrize("route", LISTS)
def test_without_the_scope_admin_no_list_has_others_rows(
    objects: dict[str, str], admin_user: User, route: str
) -> None:
    answer = client_with(admin_user, *ALL_BUT_ADMIN).get(path(route, objects), {"ids": objects["jobs"]})
    assert answer.status_code in (200, 404, 405)
    said = answer.content.decode()
    mine = [objects[name] for name in ("jobs", "images", "collections", "loras", "account/tokens")]
    # Engines and workers are everybody's; the name of this worker is the test's.
    assert "workers" in route or not [word for word in (*mine, NAME) if word in said]


def test_without_the_scope_admin_no_request_may_name_others_rows(
    objects: dict[str, str], admin_user: User
) -> None:
    client = client_with(admin_user, *ALL_BUT_ADMIN)
    lora, collection, image = (objects[name] for name in ("loras", "collections", "images"))
    assert client.get("/api/v1/images/", {"lora": lora}).status_code == 400
    assert client.get("/api/v1/images/", {"collection": collection}).status_code == 400
    with_lora = asked(loras=[{"slug": lora, "weight": 1}])
    assert client.post("/api/v1/jobs/", with_lora, format="json").status_code == 400
    mine = client.post("/api/v1/collections/", {"name": "Mine"}, format="json").json()["id"]
    added = client.post(f"/api/v1/collections/{mine}/add/", {"images": [image]}, format="json")
    assert added.status_code == 400
    named = client.post("/v1/images/generations", {"prompt": "fog", "loras": [{"name": lora}]}, format="json")
    assert named.status_code == 400
    model = client.get("/v1/models").json()["data"][0]["id"]
    assert client.get(f"/v1/models/{model}:{lora}").status_code == 404


def test_with_the_scope_admin_the_administrators_rights_are_the_tokens(
    objects: dict[str, str], admin_user: User
) -> None:
    client, slug = client_with(admin_user, *ALL_BUT_ADMIN, "admin"), objects["loras"]
    address = f"/api/v1/loras/{slug}/"
    assert client.get(address).json()["owner"] == "charlie"
    assert client.get(f"{address}download/").getvalue() == NAME.encode()
    assert client.get("/api/v1/images/", {"lora": slug}).status_code == 200
    shared = client.patch(address, {"visibility": "everyone"}, format="json")
    assert shared.json()["visibility"] == "everyone"
    assert client.delete(address).status_code == 204
    for folder in ("jobs", "images", "collections"):  # which are their owner's alone
        assert client.get(f"/api/v1/{folder}/{objects[folder]}/").status_code == 404


def test_a_superusers_token_without_it_asks_an_administrator_to_share(
    admin_user: User, settings: Any
) -> None:
    settings.FLUXSITE_LORA_APPROVAL = True
    slug = everything_of(admin_user, NAME)["loras"]
    body = {"visibility": "everyone"}
    shared = client_with(admin_user, *ALL_BUT_ADMIN).patch(f"/api/v1/loras/{slug}/", body, format="json")
    assert (shared.json()["visibility"], shared.json()["approval"]) == ("private", "waiting")
