"""What people set of their own account, and what ends when they do."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.models import ApiToken, LastAdministrator, User
from tests.conftest import client_of

PASSWORD = "correct horse battery"
USAGE = "/account/usage/"


def is_in(client: Client) -> bool:
    return client.get(reverse("accounts:profile")).status_code == 200


@pytest.fixture
def browsers(alice: User) -> list[Client]:
    """Two browsers in which alice is logged in."""
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(alice)
    return clients


@pytest.mark.parametrize("section", ["profile", "display", "password"])
def test_each_page_names_itself_in_the_list_of_pages(client: Client, alice: User, section: str) -> None:
    client.force_login(alice)
    address = reverse(f"accounts:{section}")
    page = client.get(address).content.decode()
    assert f'<a href="{address}" aria-current="page">' in page
    assert reverse("generation:people") not in page


def test_a_profile_is_changed(client: Client, alice: User) -> None:
    client.force_login(alice)
    said = {
        "first_name": "Ana",
        "last_name": "<b>Moreau</b>",
        "email": "ana@studio.example",
        "username": "eve",
    }
    page = client.post(reverse("accounts:profile"), said, follow=True).content.decode()
    alice.refresh_from_db()
    assert (alice.username, alice.first_name, alice.email) == ("alice", "Ana", "ana@studio.example")
    assert "<b>Moreau</b>" not in page
    assert "&lt;b&gt;Moreau" in page


def test_an_address_of_another_is_refused_in_any_case(client: Client, alice: User, bob: User) -> None:
    client.force_login(alice)
    page = client.post(reverse("accounts:profile"), {"email": "BOB@studio.example"}).content.decode()
    assert "Another account has this address." in page
    assert "alice@studio.example" in page  # what the account has, on the bar
    client.post(reverse("accounts:profile"), {"email": "ALICE@studio.example"})
    alice.refresh_from_db()
    assert alice.email == "ALICE@studio.example"


def test_a_new_password_ends_other_sessions_and_no_token(alice: User, browsers: list[Client]) -> None:
    here, there = browsers
    api = client_of(alice)
    new = "a stapled battery horse"
    said = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert here.post(reverse("accounts:password"), said).status_code == 302
    assert is_in(here)
    assert not is_in(there)
    assert api.get("/api/v1/me/").status_code == 200
    assert there.post("/login/", {"username": "alice", "password": new}).status_code == 302


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (("wrong", "a stapled battery horse", "a stapled battery horse"), "This is not your password."),
        ((PASSWORD, "a stapled battery horse", "another battery horse"), "The two differ."),
        ((PASSWORD, "short", "short"), "5 characters. Use 12 or more"),
        ((PASSWORD, "alice@studio.example", "alice@studio.example"), "too similar"),
    ],
)
def test_a_password_that_will_not_do_says_why(
    client: Client, alice: User, said: tuple[str, str, str], words: str
) -> None:
    client.force_login(alice)
    fields = dict(zip(("old_password", "new_password1", "new_password2"), said, strict=True))
    page = client.post(reverse("accounts:password"), fields).content.decode()
    assert words in page
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_logging_out_everywhere_else_keeps_this_browser(browsers: list[Client], bob: User) -> None:
    here, there = browsers
    stranger = Client()
    stranger.force_login(bob)
    here.post(reverse("accounts:end-sessions"))
    assert [is_in(client) for client in (here, there, stranger)] == [True, False, True]


def test_sessions_from_before_the_upgrade_go_on(alice: User) -> None:
    salt = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"
    before = salted_hmac(salt, alice.password, algorithm="sha256").hexdigest()
    assert alice.get_session_auth_hash() == before


# Tokens -----------------------------------------------------------------------------------------------


def make(client: Client, name: str = "n8n", **said: object) -> str:
    return client.post(
        USAGE, {"name": name, "scopes": ["generate", "read"], "days": "30", **said}
    ).content.decode()


def test_a_token_is_shown_once_and_works(client: Client, alice: User) -> None:
    client.force_login(alice)
    page = make(client)
    row = ApiToken.objects.get()
    token = page.partition('<code id="new-token">')[2].partition("</code>")[0]
    assert token.startswith(row.token_key)
    answer = Client().get("/api/v1/me/", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["username"] == "alice"
    assert (row.name, row.scope) == ("n8n", "generate read")
    assert timedelta(days=29.9) < row.expiry - timezone.now() < timedelta(days=30)
    again = client.get(USAGE)
    assert token not in again.content.decode()
    assert "no-store" in again["Cache-Control"]


def test_the_page_sent_again_makes_no_second_token(client: Client, alice: User) -> None:
    client.force_login(alice)
    make(client)
    assert "You have a token of this name." in make(client)
    assert ApiToken.objects.count() == 1


@pytest.mark.parametrize(
    "said",
    [{"name": ""}, {"scopes": []}, {"scopes": ["all"]}, {"scopes": ["admin"]}, {"days": "0"}, {"days": "x"}],
)
def test_what_cannot_be_makes_no_token(client: Client, alice: User, said: dict[str, object]) -> None:
    client.force_login(alice)
    assert "new-token" not in make(client, **said)  # type: ignore[arg-type]
    assert not ApiToken.objects.exists()


def test_the_scope_admin_is_offered_to_administrators(client: Client, alice: User) -> None:
    User.objects.update(is_staff=True)
    client.force_login(alice)
    assert "new-token" in make(client, scopes=["admin"])
    assert ApiToken.objects.get().scope == "admin"


def test_a_name_of_a_token_is_text(client: Client, alice: User) -> None:
    client.force_login(alice)
    page = make(client, "<script>alert(1)</script>")
    assert "<script>alert" not in page


def test_tokens_are_renewed_and_revoked_by_their_owner_alone(client: Client, alice: User, bob: User) -> None:
    api = client_of(alice)
    token = ApiToken.objects.get()
    ApiToken.objects.update(expiry=timezone.now() + timedelta(days=3))
    paths = [reverse(f"accounts:{verb}-token", args=[token.token_key]) for verb in ("renew", "revoke")]
    client.force_login(bob)
    assert [client.post(path).status_code for path in paths] == [404, 404]
    client.force_login(alice)
    assert [client.get(path).status_code for path in paths] == [405, 405]
    assert "in 3 days" in client.get(USAGE).content.decode()
    client.post(paths[0])
    token.refresh_from_db()
    assert token.expiry - timezone.now() > timedelta(days=89)
    client.post(paths[1])
    assert not ApiToken.objects.exists()
    assert api.get("/api/v1/me/").status_code == 401


# Switching an account off -----------------------------------------------------------------------------


def test_the_last_administrator_stays(alice: User, bob: User) -> None:
    User.objects.update(is_superuser=True)
    User.objects.switch_off(bob)
    with pytest.raises(LastAdministrator, match="alice is the last administrator"):
        User.objects.switch_off(alice)
    alice.refresh_from_db()
    assert alice.is_active


@pytest.mark.django_db(transaction=True)
def test_of_two_administrators_who_switch_each_other_off_at_once_one_stays(alice: User, bob: User) -> None:
    User.objects.update(is_superuser=True)

    def switch_off(user: User) -> bool:
        try:
            User.objects.switch_off(user)
        except LastAdministrator:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(switch_off, (alice, bob))) == [False, True]
    assert User.objects.administrators().count() == 1
