"""A user name and an address are one in every spelling, on each database."""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import F
from django.http import HttpRequest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Invitation, User, canonical
from accounts.models.canonical_form import MOST
from tests.conftest import let_administer

PASSWORD = "correct horse battery"
# Of Élise: another case, a composed and a decomposed É, letters of full width.
SPELLINGS = ["élise", "ÉLISE", "E\u0301lise", "Éｌise"]


@pytest.fixture
def elise(db: None) -> User:
    return User.objects.create_user("Élise", "élise@Münich.example", PASSWORD)


@pytest.mark.parametrize("name", [*SPELLINGS, "ÉLISE@MÜNICH.example"])
def test_it_logs_in_in_any_spelling(elise: User, name: str) -> None:
    assert authenticate(HttpRequest(), username=name, password=PASSWORD) == elise


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_database_refuses_a_twin(elise: User, name: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user(name)
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.bulk_create([User(username=name)])


def test_the_database_refuses_a_twin_of_an_address(elise: User) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("other", "ÉLISE@münich.example")


def test_many_accounts_have_no_address(elise: User) -> None:
    User.objects.create_user("one")
    User.objects.create_user("two")
    assert not User.objects.at("").exists()


@pytest.mark.parametrize("how", ["update", "save", "save of fields", "save of what is read"])
def test_whoever_is_renamed_gives_the_old_name_up_and_holds_the_new_one(elise: User, how: str) -> None:
    if how == "update":
        User.objects.filter(pk=elise.pk).update(username="Ève")
    else:
        row = User.objects.get() if how == "save of what is read" else elise
        row.username = "Ève"
        row.save(**{"update_fields": ["username"]} if how == "save of fields" else {})
    assert User.objects.named("ÈVE").get() == elise
    assert not User.objects.named("Élise").exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("ève")


def test_an_update_whose_spelling_only_the_database_knows_is_refused(elise: User) -> None:
    with pytest.raises(TypeError, match="username"):
        User.objects.update(username=F("first_name"))


def test_forms_name_the_field(client: Client, elise: User, alice: User) -> None:
    one = Invitation.objects.create(invited_by=alice, expires_at=timezone.now() + timedelta(days=1))
    address = reverse("accounts:invite", args=[one.token])
    page = client.post(address, {"username": "élise", "password": PASSWORD})
    assert "This name is taken. Choose another." in page.content.decode()
    said = {"username": "eve", "email": "alice@STUDIO.example", "password": PASSWORD}
    page = client.post(address, said)
    assert "Another account has this address." in page.content.decode()
    with pytest.raises(ValidationError) as refused:
        User(username="élise", password="x").full_clean()
    assert set(refused.value.message_dict) == {"username"}


def test_the_admin_names_the_field_too(client: Client, elise: User, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_superuser=True, is_staff=True)
    client.force_login(alice)
    address = reverse("admin:accounts_user_change", args=[alice.pk])
    form = client.get(address).context["adminform"].form
    said = {name: form[name].value() for name in form.fields if form[name].value() not in (None, False)}
    said |= {f"{name}_0": "2026-12-01" for name in ("last_login", "date_joined")}
    said |= {f"{name}_1": "12:00:00" for name in ("last_login", "date_joined")}
    page = client.post(address, {**said, "username": "élise"})
    assert page.status_code == 200
    assert "This name is taken. Choose another." in page.content.decode()
    alice.refresh_from_db()
    assert alice.username == "alice"


def test_people_are_found_in_any_case(client: Client, elise: User, alice: User) -> None:
    let_administer(alice, "view_user")
    client.force_login(alice)
    page = client.get(reverse("generation:people"), {"q": "ÉLI"}).content.decode()
    assert "Élise" in page


def test_any_name_that_is_allowed_fits_into_the_index() -> None:
    letters = [chr(code) for code in range(sys.maxunicode + 1) if re.match(r"\w", chr(code))]
    assert max(len(canonical(letter).encode()) for letter in letters) * 60 < 2704
    assert len(canonical("\ufdfa" * 10_000)) == MOST


# Data of earlier releases -----------------------------------------------------------------------------


@pytest.fixture
def before() -> Iterator[Callable[[], Any]]:
    """Goes back to where each database compared by its own LOWER; gives the users as they were."""
    target = ("accounts", "0007_offboarding_and_sessions")

    def go_back() -> Any:
        call_command("migrate", *target, verbosity=0)
        state = MigrationExecutor(connection).loader.project_state([target])
        return state.apps.get_model("accounts", "User")

    yield go_back
    call_command("migrate", verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_twins_of_earlier_releases_keep_their_accounts_under_names_of_their_own(
    before: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    users = before().objects
    switched_off = users.create(username="ﬁona", email="ﬁona@studio.example", is_active=False, password="1")
    fiona = users.create(username="fiona", email="fiona@studio.example", password="2")
    third = users.create(username="Ｆiona", password="3")
    blocked = users.create(username=f"fiona-{third.pk}", password="4")
    with caplog.at_level(logging.WARNING):
        call_command("migrate", verbosity=0)
    assert list(User.objects.order_by("pk").values_list("pk", "username", "email", "password")) == [
        (switched_off.pk, f"ﬁona-{switched_off.pk}", "", "1"),
        (fiona.pk, "fiona", "fiona@studio.example", "2"),
        (third.pk, f"Ｆiona-{third.pk + 1}", "", "3"),
        (blocked.pk, f"fiona-{third.pk}", "", "4"),
    ]
    assert [User.objects.named(user.username).get() for user in User.objects.all()] == list(
        User.objects.all()
    )
    for said in (
        f"The account ﬁona is called ﬁona-{switched_off.pk} now, because fiona has that name",
        "loses its address ﬁona@studio.example, which fiona has",
    ):
        assert said in caplog.text
