"""Who may log in, and under which name."""

import pytest
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest

from accounts.models import User


@pytest.mark.parametrize("name", ["alice", "ALICE", "alice@studio.example", "Alice@Studio.Example"])
def test_it_logs_in_by_name_or_email_in_any_case(alice: User, name: str) -> None:
    assert authenticate(HttpRequest(), username=name, password="correct horse battery") == alice


def test_a_wrong_password_logs_nobody_in(alice: User) -> None:
    assert authenticate(HttpRequest(), username="alice", password="wrong horse battery") is None
    assert authenticate(HttpRequest(), username="nobody", password="correct horse battery") is None


def test_a_user_switched_off_cannot_log_in(alice: User) -> None:
    User.objects.update(is_active=False)
    assert authenticate(HttpRequest(), username="alice", password="correct horse battery") is None


def test_names_and_emails_are_unique_in_any_case(alice: User) -> None:
    for twin in ({"username": "Alice"}, {"username": "other", "email": "ALICE@studio.example"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create_user(**twin)


def test_a_name_cannot_be_an_email_address() -> None:
    with pytest.raises(ValidationError):
        User(username="bob@studio.example").clean_fields(exclude=["password"])


def test_initials_come_from_the_full_name_or_the_user_name() -> None:
    assert User(username="ana", first_name="Ana", last_name="Moreau").initials == "AM"
    assert User(username="ana").initials == "AN"
