"""Which models the admin shows, and what of them it lets people change."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.db.models.signals import pre_save
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from accounts.models import Quota, User
from gpu.models import Mode, Pool
from operations.models import Kind, Rule
from tests.belongings import everything_of

# What administrators may change there, and what they only see.
EDITABLE = {"accounts.Quota", "accounts.User", "auth.Group", "gpu.Pool", "loras.Lora", "operations.Rule"}
SHOWN = {
    "accounts.ApiToken", "accounts.Invitation", "accounts.UsageEntry", "generation.Image", "generation.Job",
    "generation.ShareLink", "gpu.Worker", "operations.Cleanup", "operations.Damage",
}  # fmt: skip


def test_only_listed_models_are_in_the_admin() -> None:
    assert {model._meta.label for model in admin.site._registry} == EDITABLE | SHOWN


def test_what_is_only_shown_has_no_field_to_change(admin_user: User, rf: RequestFactory) -> None:
    request = rf.get("/")
    request.user = admin_user
    editable = {
        model._meta.label
        for model, rows in admin.site._registry.items()
        if rows.has_add_permission(request)
        or (rows.has_change_permission(request) and rows.get_form(request, change=True).base_fields)
    }
    assert editable == EDITABLE


def test_staff_with_all_permissions_of_django_q2_reach_none_of_its_rows(bob: User, client: Client) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(content_type__app_label__in=["django_q", "axes"]))
    client.force_login(bob)
    for page in ("django_q/schedule/add/", "django_q/ormq/", "django_q/success/", "axes/accessattempt/"):
        assert client.get(f"/admin/{page}").status_code == 404


@pytest.fixture
def rows(alice: User) -> None:
    """One row at least of each model that the admin changes."""
    everything_of(alice)
    Pool.of("bf16")
    Quota.objects.create(user=alice)
    Group.objects.get_or_create(name="team")
    Rule.objects.create(kind=Kind.values[0])


@pytest.mark.parametrize("label", sorted(EDITABLE | SHOWN))
def test_the_admin_writes_no_column_that_its_form_did_not_change(
    rows: None, admin_user: User, rf: RequestFactory, label: str
) -> None:
    shown = {model._meta.label: one for model, one in admin.site._registry.items()}[label]
    request = rf.post("/")
    request.user = admin_user
    if not shown.has_change_permission(request):
        return
    row = shown.model._default_manager.first()
    assert row is not None, f"The fixture makes no {label}."
    form = shown.get_form(request, row, change=True)(instance=row)
    form.__dict__["changed_data"] = []
    with CaptureQueriesContext(connection) as queries:
        shown.save_model(request, row, form, change=True)
    assert [one["sql"] for one in queries if not one["sql"].startswith("SELECT")] == []


def test_a_new_queue_limit_takes_back_no_pause_of_the_same_moment(admin_client: Client, db: None) -> None:
    Pool.of("bf16")

    def pause(**_: Any) -> None:
        Pool.objects.update(mode=Mode.PAUSE, note="by root")

    rows = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-engine": "bf16", "_save": "Save"}
    pre_save.connect(pause, sender=Pool)
    try:
        answer = admin_client.post("/admin/gpu/pool/", {**rows, "form-0-queue_limit": "7"})
    finally:
        pre_save.disconnect(pause, sender=Pool)
    assert answer.status_code == 302
    pool = Pool.objects.get()
    assert (pool.queue_limit, pool.mode, pool.note) == (7, "pause", "by root")
