"""The cleanup's rules, what it did, and what is wrong with files."""

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from operations import policy
from operations.models import Cleanup, Damage, Kind, Rule


@admin.register(Rule)
class RuleAdmin(admin.ModelAdmin[Rule]):
    """Instead of the defaults; deleting a rule brings its default back."""

    list_display = ("kind", "on", "days", "megabytes", "otherwise")

    @admin.display(description="without this rule")
    def otherwise(self, rule: Rule) -> str:
        return str(policy.of_settings(settings.FLUXSITE_CLEANUP)[Kind(rule.kind)])


class Read:
    """Rows that commands write; here they are only looked at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Cleanup)
class CleanupAdmin(Read, admin.ModelAdmin[Cleanup]):
    list_display = ("started_at", "finished_at", "host", "deleted", "freed", "error")

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    @admin.display(description="freed")
    def freed(self, cleanup: Cleanup) -> str:
        return filesizeformat(cleanup.bytes)


@admin.register(Damage)
class DamageAdmin(Read, admin.ModelAdmin[Damage]):
    list_display = ("file", "what", "model", "row", "found_at")
    list_filter = ("what", "model")
