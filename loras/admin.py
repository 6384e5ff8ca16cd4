from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from loras import library
from loras.models import Lora


@admin.register(Lora)
class LoraAdmin(admin.ModelAdmin[Lora]):
    list_display = ("name", "slug", "owner", "visibility", "state", "family", "size", "created_at")
    list_filter = ("state", "visibility", "family")
    search_fields = ("name", "slug", "sha256")
    readonly_fields = ("file", "sha256", "size", "family", "state", "reason", "created_at")

    def delete_model(self, request: HttpRequest, obj: Lora) -> None:
        library.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Lora]) -> None:
        for lora in queryset:
            library.delete(lora)
