"""Which models the admin shows, and what of them it lets people change."""

from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client, RequestFactory

from accounts.models import User

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
