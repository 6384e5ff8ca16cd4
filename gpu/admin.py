from django.contrib import admin
from django.http import HttpRequest

from gpu.models import Worker


@admin.register(Worker)
class WorkerAdmin(admin.ModelAdmin[Worker]):
    list_display = ("host", "device", "engine", "state", "model", "pid", "started_at", "heartbeat")
    list_filter = ("engine", "state", "host")
    fields = readonly_fields = list_display

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
