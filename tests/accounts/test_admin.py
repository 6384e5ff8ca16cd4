"""People, tokens and invitations in the admin."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, Invitation, Quota, UsageEntry, User

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def full(alice: User) -> User:
    """alice, with something of everything, and names that are no markup."""
    User.objects.filter(pk=alice.pk).update(first_name=EVIL)
    ApiToken.issue(alice, EVIL, ["read"], timedelta(days=1))
    Invitation.objects.create(invited_by=alice, expires_at=timezone.now() + timedelta(days=1))
    Quota.objects.create(user=alice, images_a_day=5)
    for days in (1, 31):
        UsageEntry.objects.create(
            user=alice, job=uuid4(), attempt=1, engine="bf16", gpu_seconds=1234.5, images=7,
            outcome="succeeded", created_at=timezone.now() - timedelta(days=days),
        )  # fmt: skip
    return alice


@pytest.mark.parametrize("model", ["user", "apitoken", "invitation", "quota", "usageentry"])
def test_lists_and_rows_open_and_names_are_text(admin_client: Client, full: User, model: str) -> None:
    pages = [admin_client.get(reverse(f"admin:accounts_{model}_changelist"))]
    row = {
        "user": full, "apitoken": ApiToken.objects.get(), "invitation": Invitation.objects.get(),
        "quota": Quota.objects.get(), "usageentry": UsageEntry.objects.first(),
    }[model]  # fmt: skip
    assert row
    pages.append(admin_client.get(reverse(f"admin:accounts_{model}_change", args=[row.pk])))
    for page in pages:
        assert page.status_code == 200
        assert EVIL not in page.content.decode()


def test_the_list_of_users_shows_what_they_used_of_late(admin_client: Client, full: User) -> None:
    page = admin_client.get(reverse("admin:accounts_user_changelist")).content.decode()
    assert 'class="field-images_30_days">7<' in page
    assert 'class="field-gpu_time_30_days">1,234<' in page


def test_a_user_is_not_deleted_but_offboarded(admin_client: Client, full: User) -> None:
    assert admin_client.post(reverse("admin:accounts_user_delete", args=[full.pk])).status_code == 403


def test_tokens_and_invitations_are_revoked_and_never_made(admin_client: Client, full: User) -> None:
    for model, row in (("apitoken", ApiToken.objects.get()), ("invitation", Invitation.objects.get())):
        assert admin_client.get(reverse(f"admin:accounts_{model}_add")).status_code == 403
        admin_client.post(reverse(f"admin:accounts_{model}_delete", args=[row.pk]), {"post": "yes"})
        assert not type(row)._default_manager.exists()
