from typing import Any, ClassVar, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminIntegerFieldWidget
from django.db import models
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html

from generation import operations
from generation.models import Image, Job, ShareLink
from generation.views.shared import Refused, submitted
from generation.words import readings
from gpu.models import Mode, Pool, Worker

Row = TypeVar("Row", Worker, Pool)


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
        for job in chosen.exclude(owner=None):  # trials are begun again for their LoRA
            if isinstance(refused := submitted(job.retry), Refused):
                self.message_user(request, f"{job.pk}: {refused.sentence}", messages.ERROR)

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


@admin.register(ShareLink)
class ShareLinkAdmin(ReadOnly, admin.ModelAdmin[ShareLink]):
    """Links that people made for those without an account; one that got into the wrong hands is revoked."""

    list_display = ("id", "owner", "what", "state", "with_recipe", "created_at", "expires_at")
    list_filter = ("owner", "with_recipe", "created_at")
    list_select_related = ("owner",)
    actions = ("revoke",)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("generation.change_sharelink")

    @admin.display(description="shows")
    def what(self, link: ShareLink) -> str:
        return "a collection" if link.collection_id else "a picture"

    @admin.action(description="Revoke", permissions=["operate"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ShareLink]) -> None:
        revoked = ShareLink.objects.filter(pk__in=chosen.values("pk")).revoke()
        self.message_user(request, f"{revoked} of {len(chosen)} revoked; the others were already.")


class ModeAdmin(ReadOnly, admin.ModelAdmin[Row]):
    """Pause, drain and resume, for workers and for whole engines."""

    actions = ("pause", "drain", "resume")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("gpu.change_worker")

    @admin.action(description="Pause: take no new job, keep the model in memory", permissions=["operate"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        self._set(request, chosen, Mode.PAUSE)

    @admin.action(description="Drain: take no new job, then give the memory back", permissions=["operate"])
    def drain(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        self._set(request, chosen, Mode.DRAIN)

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        self._set(request, chosen, Mode.RUN)

    @staticmethod
    def _set(request: HttpRequest, chosen: QuerySet[Any], mode: Mode) -> None:
        for target in chosen:
            operations.set_mode(target, mode, by=request.user.get_username())


@admin.register(Worker)
class WorkerAdmin(ModeAdmin[Worker]):
    list_display = (
        "host", "device_name", "engine", "state", "mode", "memory", "gpu", "heartbeat", "job", "note",
    )  # fmt: skip
    list_filter = ("engine", "state", "mode", "host")
    readonly_fields = ("job", "memory", "free", "gpu")
    fieldsets = (
        (None, {"fields": ("host", "device", "device_name", "engine", "pid", "started_at", "heartbeat")}),
        ("What it does", {"fields": ("state", "mode", "note", "job", "model", "load_seconds", "loras")}),
        ("Its device", {"fields": ("memory", "free", "gpu")}),
    )
    change_list_template = "admin/live_change_list.html"

    @admin.display(description="current job")
    def job(self, worker: Worker) -> str:
        job = Job.objects.filter(worker=worker, state=Job.State.RUNNING).first()
        if job is None:
            return "–"
        return format_html(
            '<a href="{}">{}, step {} of {}</a>',
            reverse("admin:generation_job_change", args=[job.pk]), job.owner, job.step, job.steps,
        )  # fmt: skip

    @admin.display(description="memory")
    def memory(self, worker: Worker) -> str:
        if not (worker.is_alive and worker.memory_total):
            return "–"
        held = worker.memory_model + worker.memory_loras
        return f"{filesizeformat(held)} of {filesizeformat(worker.memory_total)}"

    @admin.display(description="free memory")
    def free(self, worker: Worker) -> str:
        return filesizeformat(worker.memory_free) if worker.is_alive and worker.memory_total else "–"

    @admin.display(description="GPU")
    def gpu(self, worker: Worker) -> str:
        return (worker.is_alive and readings(worker.utilisation, worker.celsius)) or "–"


@admin.register(Pool)
class PoolAdmin(ModeAdmin[Pool]):
    """Engines: how many jobs may wait, and whether they are drawn."""

    list_display = ("engine", "mode", "note", "waiting", "queue_limit")
    list_editable = ("queue_limit",)
    formfield_overrides: ClassVar = {
        models.PositiveIntegerField: {"widget": AdminIntegerFieldWidget({"aria-label": "Queue limit"})}
    }
    readonly_fields = ("engine", "mode", "note")

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return bool(request.user.has_perm("gpu.change_pool"))

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def waiting(self, pool: Pool) -> int:
        return Job.objects.queued(pool.engine).count()
