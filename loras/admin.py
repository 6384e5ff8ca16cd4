from django.contrib import admin

from loras.models import Lora


@admin.register(Lora)
class LoraAdmin(admin.ModelAdmin[Lora]):
    list_display = ("name", "slug", "owner", "visibility", "state", "family", "size", "created_at")
    list_filter = ("state", "visibility", "family")
    search_fields = ("name", "slug", "sha256")
    readonly_fields = ("file", "sha256", "size", "family", "state", "reason", "created_at")
