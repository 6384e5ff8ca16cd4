"""Who tries passwords is slowed down, and only who does."""

from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.core.management import CommandError, call_command
from django.db.models import F
from django.test import Client

from accounts import throttle
from accounts.models import User

PASSWORD = "correct horse battery"
LIMIT = 10


def log_in(client: Client, name: str = "alice", password: str = PASSWORD, **headers: Any) -> Any:
    return client.post("/login/", {"username": name, "password": password}, **headers)


def fail(client: Client, times: int = LIMIT, name: str = "alice", **headers: Any) -> None:
    for number in range(times):
        log_in(client, name, f"wrong {number}", **headers)


def test_too_many_tries_wait_and_are_told_for_how_long(client: Client, alice: User) -> None:
    fail(client, LIMIT - 2)
    assert "do not match" in log_in(client, password="wrong").content.decode()
    assert log_in(client, password="wrong").status_code == 429
    response = log_in(client)
    assert response.status_code == 429
    assert response["Retry-After"] == "300"
    page = response.content.decode()
    assert "Too many tries.</b> Wait 5 minutes, then try again" in page
    assert 'value="alice"' in page
    assert "_auth_user_id" not in client.session


def test_after_the_wait_the_password_counts_again(client: Client, alice: User) -> None:
    fail(client)
    assert log_in(client).status_code == 429
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=5, seconds=1))
    assert log_in(client).status_code == 302


def test_a_login_forgets_the_tries_before(client: Client, alice: User) -> None:
    for _ in range(2):
        fail(client, LIMIT - 1)
        assert log_in(client).status_code == 302
        client.logout()


def test_name_and_address_in_any_case_are_one_account(client: Client, alice: User) -> None:
    for name in ("alice", "ALICE", "alice@studio.example", "Alice@Studio.Example", "aLiCe"):
        fail(client, 2, name)
    assert log_in(client).status_code == 429


def test_other_accounts_and_other_places_are_not_held_up(client: Client, alice: User, bob: User) -> None:
    fail(client)
    assert log_in(client, REMOTE_ADDR="192.0.2.7").status_code == 302
    client.logout()
    assert log_in(client, "bob").status_code == 302


def test_a_name_that_is_nobodys_is_held_up_alike(client: Client, db: None) -> None:
    fail(client, LIMIT, "nobody")
    assert log_in(client, "nobody").status_code == 429


def test_what_a_client_claims_of_its_address_does_not_count(client: Client, alice: User) -> None:
    for number in range(LIMIT):
        fail(client, 1, HTTP_X_FORWARDED_FOR=f"198.51.100.{number}")
    assert log_in(client, HTTP_X_FORWARDED_FOR="198.51.100.99").status_code == 429


def test_behind_a_proxy_the_address_is_what_the_proxy_saw(client: Client, alice: User, settings: Any) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    for number in range(LIMIT):
        fail(client, 1, HTTP_X_FORWARDED_FOR=f"198.51.100.{number}, 203.0.113.9")
    assert log_in(client, HTTP_X_FORWARDED_FOR="198.51.100.99, 203.0.113.9").status_code == 429
    assert log_in(client, HTTP_X_FORWARDED_FOR="203.0.113.9, 203.0.113.10").status_code == 302


def test_the_addresses_of_one_network_of_ipv6_are_one(client: Client, alice: User) -> None:
    for number in range(LIMIT):
        fail(client, 1, REMOTE_ADDR=f"2001:db8:1:2:{number}::{number}")
    assert log_in(client, REMOTE_ADDR="2001:db8:1:2::99").status_code == 429
    assert log_in(client, REMOTE_ADDR="2001:db8:1:3::1").status_code == 302


def test_an_address_of_ipv4_is_itself_however_it_is_written(client: Client, alice: User) -> None:
    for number in range(LIMIT):
        fail(client, 1, REMOTE_ADDR=("192.0.2.1", "::ffff:192.0.2.1")[number % 2])
    assert log_in(client, REMOTE_ADDR="192.0.2.1").status_code == 429
    assert log_in(client, REMOTE_ADDR="::ffff:192.0.2.2").status_code == 302


def test_the_admins_login_is_held_up_too(client: Client, alice: User) -> None:
    for number in range(LIMIT + 1):
        response = client.post("/admin/login/", {"username": "alice", "password": f"wrong {number}"})
    assert response.status_code == 429


def test_no_password_is_kept(client: Client, alice: User) -> None:
    fail(client, 1)
    attempt = AccessAttempt.objects.get()
    assert (attempt.username, attempt.failures_since_start) == ("alice", 1)
    assert "wrong" not in attempt.post_data + attempt.get_data


def test_an_administrator_unlocks(client: Client, alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    fail(client)
    call_command("unlock", "ALICE")
    assert "alice may log in." in capsys.readouterr().out
    assert log_in(client).status_code == 302
    with pytest.raises(CommandError, match="no user called nobody"):
        call_command("unlock", "nobody")


def test_who_guesses_at_many_accounts_is_held_up_too(client: Client, alice: User) -> None:
    """One password at each of many accounts stayed below the limit of every account."""
    guess_at_many(client)
    assert log_in(client).status_code == 429
    assert log_in(client, REMOTE_ADDR="192.0.2.7").status_code == 302


def test_who_guessed_at_many_accounts_may_try_again_later(client: Client, alice: User) -> None:
    guess_at_many(client)
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=5, seconds=1))
    assert log_in(client).status_code == 302


def guess_at_many(client: Client) -> None:
    """The rows of so many failures at different accounts, of which the last is a real one."""
    log_in(client, "nobody", "wrong")
    row = AccessAttempt.objects.get()
    for number in range(throttle.FAILURES_OF_AN_ADDRESS - 1):
        row.pk, row.username = None, f"person{number}"
        row.save(force_insert=True)
