from django.contrib import admin
from django.http import HttpRequest

from generation.models import Image, Job


class ReadOnly:
    """Rows are made by the pages, the API and the workers; here they are only looked at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(ReadOnly, admin.ModelAdmin[Job]):
    list_display = ("id", "owner", "state", "engine", "prompt", "attempt", "created_at", "finished_at")
    list_filter = ("state", "engine", "owner", "created_at")
    search_fields = ("id", "prompt")
    list_select_related = ("owner",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Image)
class ImageAdmin(ReadOnly, admin.ModelAdmin[Image]):
    list_display = ("id", "owner", "seed", "width", "height", "model", "size", "created_at")
    list_select_related = ("owner",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
