"""What a token may do, at each endpoint of the API, and what it is told where it may not."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from accounts.models import ApiToken, User
from tests.conftest import asked, client_of, submit

READS = ["/api/v1/jobs/", "/api/v1/images/", "/api/v1/loras/", "/api/v1/me/"]


def client_with(user: User, *scopes: str) -> APIClient:
    """A client that sends a token of ``user`` with these scopes."""
    client = APIClient()
    token = ApiToken.issue(user, "test", scopes, timedelta(days=1))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def refused(response: Any) -> str:
    """The sentence of a 403 in the documented shape."""
    assert response.status_code == 403, response.content
    answer = response.json()
    assert answer["type"] == "client_error"
    (error,) = answer["errors"]
    assert error["code"] == "missing_scope"
    return str(error["detail"])


@pytest.mark.parametrize("path", READS)
def test_reading_takes_the_scope_read(alice: User, path: str) -> None:
    assert client_with(alice, "read").get(path).status_code == 200
    for scope in ("generate", "loras", "admin"):
        assert "lacks the scope read" in refused(client_with(alice, scope).get(path))


def test_drawing_takes_the_scope_generate(alice: User) -> None:
    job = submit(alice)
    for path in ("/api/v1/jobs/", f"/api/v1/jobs/{job.pk}/cancel/", f"/api/v1/jobs/{job.pk}/retry/"):
        detail = refused(client_with(alice, "read", "loras").post(path, asked(), format="json"))
        assert "lacks the scope generate (draw, cancel, change pictures)" in detail
        assert "/account/usage/" in detail
        assert client_with(alice, "generate").post(path, asked(), format="json").status_code in (200, 201)


@pytest.mark.parametrize("method", ["post", "patch", "delete"])
def test_changing_loras_takes_the_scope_loras(alice: User, method: str) -> None:
    path = "/api/v1/loras/" if method == "post" else "/api/v1/loras/fog/"
    assert "scope loras" in refused(getattr(client_with(alice, "read", "generate"), method)(path))
    assert getattr(client_with(alice, "loras"), method)(path).status_code in (400, 404)


def test_a_token_without_a_word_on_scopes_may_all_that_people_may(alice: User) -> None:
    assert ApiToken.objects.create(alice, name="old")[0].scopes == {"generate", "read", "loras"}
    for path in READS:
        assert client_of(alice).get(path).status_code == 200


def test_a_session_has_all_scopes(alice: User) -> None:
    client = APIClient()
    client.force_login(alice)
    assert client.get("/api/v1/me/").status_code == 200
    assert client.post("/api/v1/jobs/", asked(), format="json").status_code == 201


class Studio(APIView):
    """What only administrators may see and change."""

    required_scope = "admin"

    def get(self, request: Any) -> Response:
        return Response()

    post = get


@pytest.mark.parametrize(
    ("scopes", "is_staff", "code"),
    [
        ("admin", True, None),
        ("admin", False, "not_an_administrator"),
        ("read generate loras", True, "missing_scope"),
        (None, True, None),
        (None, False, "not_an_administrator"),
    ],
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_studio_is_the_administrators_and_of_tokens_with_their_scope(
    alice: User, scopes: str | None, is_staff: bool, code: str | None, method: str
) -> None:
    alice.is_staff = is_staff
    request = getattr(APIRequestFactory(), method)("/")
    force_authenticate(request, alice, token=None if scopes is None else ApiToken(scope=scopes))
    response = Studio.as_view()(request)
    assert response.status_code == (403 if code else 200)
    assert not code or response.data["errors"][0]["code"] == code


def test_nobody_gets_401_and_not_a_scope(db: None) -> None:
    assert APIClient().get("/api/v1/me/").status_code == 401


# When a token was used --------------------------------------------------------------------------------


def used(token: ApiToken) -> Any:
    token.refresh_from_db()
    return token.last_used_at


def test_a_use_is_kept_once_a_minute(alice: User, django_assert_num_queries: Any) -> None:
    client = client_with(alice, "read")
    token = ApiToken.objects.get()
    assert token.last_used_at is None
    client.get("/api/v1/loras/")
    first = used(token)
    assert timezone.now() - first < timedelta(minutes=1)
    client.get("/api/v1/loras/")
    assert used(token) == first
    with django_assert_num_queries(0):
        token.was_used()
    ApiToken.objects.update(last_used_at=first - timedelta(minutes=2))
    client.get("/api/v1/loras/")
    assert used(token) >= first


def test_what_is_refused_is_no_use(alice: User) -> None:
    client = client_with(alice, "read")
    ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert "expired" in client.get("/api/v1/me/").json()["errors"][0]["detail"]
    token = ApiToken.objects.get()
    assert used(token) is None
    assert token.renew()
    assert client.get("/api/v1/me/").status_code == 200


@pytest.mark.parametrize("how", ["inactive", "revoked"])
def test_a_token_of_nobody_says_so(alice: User, how: str) -> None:
    client = client_with(alice, "read")
    if how == "inactive":
        User.objects.update(is_active=False)
    else:
        ApiToken.objects.all().delete()
    answer = client.get("/api/v1/me/")
    assert answer.status_code == 401
    words = {"inactive": "switched off", "revoked": "no such token"}[how]
    assert words in answer.json()["errors"][0]["detail"]
