from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest

from generation.models import Image, Job, MissingLora


class ReadOnly:
    """Rows are made by the pages, the API and the workers; here they are only looked at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(ReadOnly, admin.ModelAdmin[Job]):
    list_display = (
        "id", "owner", "state", "engine", "priority", "prompt", "attempt", "created_at", "finished_at",
    )  # fmt: skip
    list_filter = ("state", "engine", "owner", "created_at")
    search_fields = ("id", "prompt")
    list_select_related = ("owner",)
    actions = ("cancel", "ask_again", "raise_priority", "lower_priority")

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("generation.change_job")

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        stopped = sum(job.cancel() for job in chosen)
        self.message_user(request, f"{stopped} of {len(chosen)} stopped; the others were over.")

    @admin.action(description="Ask again, as new jobs of their owners", permissions=["operate"])
    def ask_again(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        for job in chosen:
            try:
                job.retry()
            except MissingLora as error:
                self.message_user(request, f"{job.pk}: {error}", messages.ERROR)

    @admin.action(description="Raise priority", permissions=["operate"])
    def raise_priority(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        chosen.active().update(priority=F("priority") + 1)  # type: ignore[attr-defined]

    @admin.action(description="Lower priority", permissions=["operate"])
    def lower_priority(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        chosen.active().update(priority=F("priority") - 1)  # type: ignore[attr-defined]


@admin.register(Image)
class ImageAdmin(ReadOnly, admin.ModelAdmin[Image]):
    list_display = ("id", "owner", "seed", "width", "height", "model", "size", "created_at")
    list_select_related = ("owner",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
