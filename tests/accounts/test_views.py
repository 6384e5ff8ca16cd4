"""Logging in and out, and the page of the first administrator."""

from pathlib import Path

import pytest
from django.db import connection
from django.test import Client

from accounts import setup
from accounts.models import User

PASSWORD = "correct horse battery"


def log_in(client: Client, name: str, password: str = PASSWORD, **more: str) -> int:
    return client.post("/login/", {"username": name, "password": password, **more}).status_code


@pytest.mark.parametrize("name", ["alice", "ALICE", "alice@studio.example"])
def test_name_or_email_log_in(client: Client, alice: User, name: str) -> None:
    assert log_in(client, name) == 302
    assert client.session["_auth_user_id"] == str(alice.pk)


def test_a_wrong_password_says_what_to_check_and_keeps_the_name(client: Client, alice: User) -> None:
    page = client.post("/login/", {"username": "alice", "password": "wrong"}).content.decode()
    assert "Name and password do not match." in page
    assert 'value="alice"' in page
    assert "wrong" not in page


def test_a_name_is_text(client: Client, db: None) -> None:
    page = client.post("/login/", {"username": '"><script>x', "password": "y"}).content.decode()
    assert "<script>x" not in page


def test_staying_logged_in_is_a_choice(client: Client, alice: User) -> None:
    log_in(client, "alice", stay="on")
    assert not client.session.get_expire_at_browser_close()
    client.logout()
    log_in(client, "alice")
    assert client.session.get_expire_at_browser_close()


def test_after_the_login_comes_the_page_that_was_wanted(client: Client, alice: User) -> None:
    assert 'name="next" value="/history/"' in client.get("/login/?next=/history/").content.decode()
    response = client.post("/login/", {"username": "alice", "password": PASSWORD, "next": "/history/"})
    assert response["Location"] == "/history/"


def test_it_leads_to_no_other_site(client: Client, alice: User) -> None:
    form = {"username": "alice", "password": PASSWORD, "next": "https://evil.example/"}
    assert client.post("/login/", form)["Location"] == "/"


def test_who_is_logged_in_is_not_asked_again(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get("/login/")["Location"] == "/"


def test_logging_out_ends_the_session(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.post("/logout/")["Location"] == "/login/"
    assert client.get("/").status_code == 302


def test_the_setup_page_shows_only_what_is_so(client: Client, db: None, media: Path) -> None:
    media.mkdir()
    page = client.get(setup.link("") or "").content.decode()
    database = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[connection.vendor]
    for fact in (f"{database}, ready", "GB free", "Demo model", "None is on yet"):
        assert fact in page


def test_the_setup_page_names_errors_and_keeps_what_was_typed(client: Client, db: None) -> None:
    form = {"username": "a b", "email": "ana@studio.example", "password": "short"}
    page = client.post(setup.link("") or "", form).content.decode()
    assert "5 characters. Use 12 or more, a few words work well." in page
    assert "Use letters, digits, dots, hyphens and underscores." in page
    assert 'value="a b"' in page
    assert 'value="ana@studio.example"' in page
    assert "short" not in page.replace("shortcuts", "")
    assert not User.objects.exists()


def test_the_first_administrator_is_welcomed(client: Client, db: None) -> None:
    form = {"username": "ana", "email": "", "password": PASSWORD}
    page = client.post(setup.link("") or "", form, follow=True).content.decode()
    assert "Welcome, ana." in page
