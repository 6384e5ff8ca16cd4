"""API tokens from the command line."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiToken, User


def create_token(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("create_token", *arguments)
    return capsys.readouterr().out.strip()


def test_it_prints_a_token_that_works(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    token = create_token(capsys, "Alice", "--name", "n8n")
    assert token.startswith("fx_")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/api/v1/jobs/").status_code == 200


def test_only_a_hash_is_stored(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    token = create_token(capsys, "alice")
    row = ApiToken.objects.get()
    assert token not in {row.digest, row.token_key}
    assert token.startswith(row.token_key)
    assert len(token) - len(row.token_key) >= 52


def test_a_token_expires(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    token = create_token(capsys, "alice", "--days", "2")
    expiry = ApiToken.objects.get().expiry
    assert timedelta(days=1.9) < expiry - timezone.now() < timedelta(days=2)
    ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/api/v1/jobs/").status_code == 401


def test_an_unknown_user_is_named(db: None) -> None:
    with pytest.raises(CommandError, match="no user called nobody"):
        call_command("create_token", "nobody")


def test_a_token_lasts_a_day_at_least(alice: User) -> None:
    with pytest.raises(CommandError, match="1 day or more"):
        call_command("create_token", "alice", "--days", "0")


def test_its_scopes_are_chosen(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    create_token(capsys, "alice")
    create_token(capsys, "alice", "--scope", "read", "--name", "one")
    create_token(capsys, "alice", "--scope", "loras", "read", "--scope", "generate", "--name", "all")
    scopes = dict(ApiToken.objects.values_list("name", "scope"))
    assert scopes == {"command line": "generate read loras", "one": "read", "all": "generate read loras"}


def test_the_scope_admin_is_for_administrators(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match="alice is no administrator"):
        call_command("create_token", "alice", "--scope", "admin")
    alice.is_staff = True
    alice.save()
    create_token(capsys, "alice", "--scope", "admin", "read")
    assert ApiToken.objects.get().scope == "read admin"


def test_an_unknown_scope_is_refused_with_those_there_are(alice: User) -> None:
    with pytest.raises(CommandError, match="generate"):
        call_command("create_token", "alice", "--scope", "everything")
