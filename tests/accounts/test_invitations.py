"""Invitations: a link makes one account, once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Invitation, InvitationClosed, User
from tests.conftest import let_administer

PASSWORD = "correct horse battery"


def invitation(by: User, email: str = "", days: float = 7) -> Invitation:
    return Invitation.objects.create(
        invited_by=by, email=email, expires_at=timezone.now() + timedelta(days=days)
    )


def address(of: Invitation) -> str:
    return reverse("accounts:invite", args=[of.token])


def accept(client: Client, of: Invitation, name: str = "eve", **said: str) -> Any:
    return client.post(address(of), {"username": name, "password": PASSWORD, **said})


def test_it_makes_an_account_in_its_groups_and_logs_in(client: Client, alice: User) -> None:
    one = invitation(alice)
    one.groups.set(Group.objects.filter(name="team"))
    assert "alice invited you" in client.get(address(one)).content.decode()
    assert accept(client, one, email="eve@studio.example").status_code == 302
    eve = User.objects.get(username="eve")
    assert client.session["_auth_user_id"] == str(eve.pk)
    assert (eve.email, [str(group) for group in eve.groups.all()]) == ("eve@studio.example", ["team"])
    assert (eve.is_staff, eve.is_superuser) == (False, False)
    assert eve.check_password(PASSWORD)
    one.refresh_from_db()
    assert one.used_by == eve


def test_the_address_it_was_made_for_is_the_accounts(client: Client, alice: User) -> None:
    accept(client, invitation(alice, "eve@studio.example"), email="other@studio.example")
    assert User.objects.get(username="eve").email == "eve@studio.example"


def test_a_second_use_makes_nobody(client: Client, alice: User) -> None:
    one = invitation(alice)
    accept(client, one)
    second = Client()
    assert second.get(address(one)).status_code == 404
    assert accept(second, one, "mallory").status_code == 404
    with pytest.raises(InvitationClosed):
        one.accept("mallory", PASSWORD)
    assert not User.objects.filter(username="mallory").exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_is_used_while_it_is_revoked_is_either_used_or_revoked(alice: User) -> None:
    def revoke(one: Invitation) -> bool:
        try:
            return bool(Invitation.objects.filter(pk=one.pk).revoke())
        finally:
            connection.close()

    def use(one: Invitation) -> bool:
        try:
            return bool(one.accept(f"eve-{one.pk}", PASSWORD))
        except InvitationClosed:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            one = invitation(alice)
            used, revoked = pool.submit(use, one), pool.submit(revoke, one)
            assert used.result() != revoked.result()
            assert Invitation.objects.filter(pk=one.pk).exists() == used.result()


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_comes_in(alice: User) -> None:
    one = invitation(alice)

    def come(name: str) -> str:
        try:
            return one.accept(name, PASSWORD).username
        except InvitationClosed:
            return ""
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        came = [name for name in pool.map(come, ["eve", "mallory", "oscar", "trudy"]) if name]
    assert len(came) == 1
    assert set(User.objects.values_list("username", flat=True)) == {"alice", *came}


@pytest.mark.parametrize("how", ["expired", "revoked", "forged", "of somebody who left"])
def test_what_leads_nowhere_gets_one_calm_page(client: Client, alice: User, bob: User, how: str) -> None:
    one = invitation(alice, days=-1 if how == "expired" else 7)
    path = address(one)
    if how == "revoked":
        one.delete()
    elif how == "of somebody who left":
        bob.is_superuser = True
        bob.save()
        User.objects.switch_off(alice)
    elif how == "forged":
        path = reverse("accounts:invite", args=[one.token[:-1] + ("a" if one.token[-1] != "a" else "b")])
    response = client.get(path)
    assert response.status_code == 404
    assert "This invitation leads nowhere" in response.content.decode()
    assert client.post(path, {"username": "eve", "password": PASSWORD}).status_code == 404
    assert not User.objects.filter(username="eve").exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"username": "ALICE"}, "This name is taken. Choose another."),
        ({"username": "a b"}, "Use letters, digits, dots, hyphens and underscores."),
        ({"password": "seven77"}, "7 characters. Use 12 or more"),
        ({"username": "evelyn.strange", "password": "evelyn.strange"}, "too similar"),
        ({"email": "Alice@studio.example"}, "Another account has this address."),
    ],
)
def test_what_is_wrong_is_said_and_the_link_stays_open(
    client: Client, alice: User, said: dict[str, str], words: str
) -> None:
    one = invitation(alice)
    page = client.post(address(one), {"username": "eve", "password": PASSWORD, **said})
    assert words in page.content.decode()
    assert Invitation.objects.open().get() == one
    assert User.objects.count() == 1


def test_of_two_invitations_for_one_address_the_second_says_so(client: Client, alice: User) -> None:
    first, second = invitation(alice, "eve@studio.example"), invitation(alice, "Eve@studio.example")
    accept(client, first)
    page = accept(Client(), second, "eve2").content.decode()
    assert "There is an account of Eve@studio.example already." in page
    assert "taken" not in page
    assert Invitation.objects.open().get() == second


def test_a_name_taken_meanwhile_keeps_the_link_open(client: Client, alice: User, monkeypatch: Any) -> None:
    one = invitation(alice)
    monkeypatch.setattr("accounts.forms.InvitedForm._post_clean", lambda form: None)
    assert "taken just now" in accept(client, one, "alice").content.decode()
    assert Invitation.objects.open().get() == one


# Who may invite ---------------------------------------------------------------------------------------


@pytest.fixture
def admin(client: Client, alice: User) -> Client:
    let_administer(alice, "view_user", "add_invitation", "delete_invitation")
    client.force_login(alice)
    return client


def test_an_administrator_makes_a_link_and_takes_it_back(admin: Client, alice: User) -> None:
    team = Group.objects.get(name="team")
    posted = {"email": "eve@studio.example", "days": "3", "groups": [str(team.pk)]}
    page = admin.post(reverse("generation:people"), posted).content.decode()
    one = Invitation.objects.get()
    assert (one.email, one.invited_by, list(one.groups.all())) == ("eve@studio.example", alice, [team])
    assert timedelta(days=2.9) < one.expires_at - timezone.now() < timedelta(days=3)
    assert f"http://testserver{address(one)}" in page
    admin.post(reverse("accounts:revoke-invitation", args=[one.pk]))
    assert not Invitation.objects.exists()
    assert Client().get(address(one)).status_code == 404


@pytest.mark.parametrize(
    "posted", [{"days": "0"}, {"days": "31"}, {"days": "3", "email": "alice@studio.example"}]
)
def test_an_invitation_has_its_limits(admin: Client, posted: dict[str, str]) -> None:
    assert admin.post(reverse("generation:people"), posted).status_code == 200
    assert not Invitation.objects.exists()


def test_groups_with_permissions_are_a_superusers_to_give(admin: Client, alice: User) -> None:
    group = Group.objects.create(name="operators")
    group.permissions.set(Permission.objects.filter(codename="change_job"))
    posted = {"days": "3", "groups": [str(group.pk)]}
    admin.post(reverse("generation:people"), posted)
    assert not Invitation.objects.exists()
    User.objects.update(is_superuser=True)
    admin.post(reverse("generation:people"), posted)
    assert list(Invitation.objects.get().groups.all()) == [group]


def test_others_neither_invite_nor_revoke(client: Client, alice: User, bob: User) -> None:
    one = invitation(alice)
    let_administer(bob, "view_user", "view_invitation", "delete_user")
    client.force_login(bob)
    assert client.post(reverse("generation:people"), {"days": "3"}).status_code == 403
    assert client.post(reverse("accounts:revoke-invitation", args=[one.pk])).status_code == 403
    assert Invitation.objects.get() == one


def test_a_link_of_anothers_is_a_superusers_to_see(admin: Client, alice: User, bob: User) -> None:
    """It may give groups that whoever looks could not give themselves."""
    mine, other = invitation(alice), invitation(bob, "eve@studio.example")
    page = admin.get(reverse("generation:people")).content.decode()
    assert "eve@studio.example" in page
    assert (address(mine) in page, address(other) in page) == (True, False)
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    assert address(other) in admin.get(reverse("generation:people")).content.decode()


def test_without_a_link_nobody_registers(client: Client, db: None) -> None:
    for path in ("/register/", "/signup/", "/invite/"):
        assert client.post(path, {"username": "eve", "password": PASSWORD}).status_code == 404
    assert not User.objects.exists()
