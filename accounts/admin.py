from datetime import timedelta

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import ApiToken, Invitation, Quota, UsageEntry, User

RECENT = timedelta(days=30)


@admin.register(User)
class PersonAdmin(UserAdmin[User]):
    """Nobody is deleted here: who leaves is offboarded, with what they made (see the page People)."""

    list_display = (
        "username", "email", "is_active", "is_staff", "last_login", "images_30_days", "gpu_time_30_days",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        recent = UsageEntry.objects.filter(user=OuterRef("pk"), created_at__gte=timezone.now() - RECENT)
        sums = {
            f"used_{name}": Subquery(recent.order_by().values("user").annotate(sum=Sum(name)).values("sum"))
            for name in ("images", "gpu_seconds")
        }
        users: QuerySet[User] = super().get_queryset(request)
        return users.annotate(**sums)

    @admin.display(description="pictures, 30 days", ordering="used_images")
    def images_30_days(self, user: User) -> int:
        return getattr(user, "used_images", None) or 0

    @admin.display(description="GPU seconds, 30 days", ordering="used_gpu_seconds")
    def gpu_time_30_days(self, user: User) -> str:
        return f"{getattr(user, 'used_gpu_seconds', None) or 0:,.0f}"

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """Tokens can be seen and revoked here; ``manage.py create_token`` makes them."""

    list_display = ("name", "user", "token_key", "scope", "created", "last_used_at", "expiry")
    list_select_related = ("user",)
    search_fields = ("name", "user__username", "token_key")
    fields = readonly_fields = list_display

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Invitation)
class InvitationAdmin(admin.ModelAdmin[Invitation]):
    """Who came in by whom; the page People makes the links. Deleting one revokes it."""

    list_display = ("__str__", "invited_by", "created_at", "expires_at", "used_at", "used_by")
    list_select_related = ("invited_by", "used_by")
    fields = readonly_fields = (
        "email", "groups", "invited_by", "created_at", "expires_at", "used_at", "used_by",
    )  # fmt: skip

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
