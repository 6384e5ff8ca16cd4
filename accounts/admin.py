from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from accounts.models import ApiToken, Quota, UsageEntry, User

admin.site.register(User, UserAdmin)


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """Tokens can be seen and revoked here; ``manage.py create_token`` makes them."""

    list_display = ("name", "user", "token_key", "created", "expiry")
    fields = readonly_fields = ("name", "user", "token_key", "created", "expiry")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Quota)
class QuotaAdmin(admin.ModelAdmin[Quota]):
    list_display = ("__str__", *Quota.LIMITS)
    autocomplete_fields = ("user", "group")


@admin.register(UsageEntry)
class UsageEntryAdmin(admin.ModelAdmin[UsageEntry]):
    """The ledger is only read."""

    list_display = (
        "created_at",
        "user",
        "engine",
        "outcome",
        "images",
        "gpu_seconds",
        "worker",
        "job",
        "attempt",
    )
    list_filter = ("engine", "outcome", "user", "created_at")
    list_select_related = ("user",)
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
