"""The first administrator: made once, through a signed link or from the environment."""

import time
from unittest import mock

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from accounts import setup
from accounts.models import AlreadySetUp, User

PASSWORD = "correct horse battery"


def path() -> str:
    link = setup.link("")
    assert link is not None
    return link


def test_the_link_makes_an_administrator_and_logs_them_in(client: Client, db: None) -> None:
    response = client.post(path(), {"username": "ana", "email": "ana@studio.example", "password": PASSWORD})
    assert response.status_code == 302
    user = User.objects.get()
    assert (user.username, user.is_superuser, user.is_staff) == ("ana", True, True)
    assert client.session["_auth_user_id"] == str(user.pk)


def test_the_link_closes_when_there_is_a_user(client: Client, db: None) -> None:
    link = path()
    User.objects.create_user("ana")
    assert setup.link("") is None
    assert client.get(link).status_code == 404
    assert client.post(link, {"username": "eve", "password": PASSWORD}).status_code == 404
    assert User.objects.count() == 1


@pytest.mark.parametrize("token", ["first-administrator", "first-administrator:1:x", "x"])
def test_a_forged_link_gets_404(client: Client, db: None, token: str) -> None:
    assert client.get(f"/setup/{token}/").status_code == 404


def test_the_link_is_good_for_a_day(client: Client, db: None) -> None:
    link = path()
    tomorrow = time.time() + setup.MAX_AGE_SECONDS + 1
    with mock.patch("time.time", return_value=tomorrow):
        assert client.get(link).status_code == 404


def test_a_weak_password_gets_its_reason_and_makes_nobody(client: Client, db: None) -> None:
    response = client.post(path(), {"username": "ana", "password": "seven77"})
    assert "7 characters. Use 12 or more" in response.content.decode()
    assert not User.objects.exists()


def test_of_two_first_administrators_one_is_made(db: None) -> None:
    User.objects.create_first_administrator("ana", PASSWORD)
    with pytest.raises(AlreadySetUp):
        User.objects.create_first_administrator("eve", PASSWORD)


def test_the_environment_makes_the_first_administrator_once(db: None) -> None:
    made = setup.create_administrator_from("root", PASSWORD)
    assert made is not None
    assert made.check_password(PASSWORD)
    assert setup.create_administrator_from("root", PASSWORD) is None
    assert User.objects.count() == 1


def test_without_a_name_in_the_environment_nobody_is_made(db: None) -> None:
    assert setup.create_administrator_from("", "") is None


@pytest.mark.parametrize(("name", "password"), [("root", "short"), ("ro ot", PASSWORD), ("root", "")])
def test_a_bad_name_or_password_in_the_environment_is_refused(db: None, name: str, password: str) -> None:
    with pytest.raises(ValidationError):
        setup.create_administrator_from(name, password)
    assert not User.objects.exists()
