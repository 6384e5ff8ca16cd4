from typing import ClassVar

from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html

from loras import library
from loras.models import Admission, Lora
from loras.signals import trial_wanted


class AdmissionInline(admin.TabularInline[Admission, Lora]):
    """What its trials have shown."""

    model = Admission
    extra = 0
    can_delete = False
    readonly_fields = ("engine", "state", "reason", "begun_at")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Lora)
class LoraAdmin(admin.ModelAdmin[Lora]):
    """To transfer a LoRA, change its owner."""

    list_display = (
        "name", "slug", "owner", "visibility", "approval", "state", "hidden", "family", "size", "see_uses",
        "created_at",
    )  # fmt: skip
    list_filter = ("state", "approval", "hidden", "visibility", "family")
    list_select_related = ("owner",)
    search_fields = ("search_text", "slug", "sha256")
    readonly_fields = (
        "file", "sha256", "size", "family", "state", "reason", "facts", "uses", "preview", "preview_without",
        "created_at",
    )  # fmt: skip
    autocomplete_fields = ("owner",)
    filter_horizontal = ("groups",)
    formfield_overrides: ClassVar = {models.URLField: {"assume_scheme": "https"}}
    inlines = (AdmissionInline,)
    actions = ("approve", "decline", "refuse", "hide", "show", "inspect_again", "try_again")

    def add_view(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        """The library's page takes files as they come, shows how far they are, and why one is refused."""
        return redirect("loras:library")

    @admin.display(description="uses", ordering="uses")
    def see_uses(self, lora: Lora) -> str:
        jobs = reverse("admin:generation_job_changelist")
        return format_html('<a href="{}?loras__id__exact={}">{}</a>', jobs, lora.pk, lora.uses)

    @admin.action(description="Approve: everyone may use it", permissions=["change"])
    def approve(self, request: HttpRequest, chosen: QuerySet[Lora]) -> None:
        waiting = chosen.filter(approval=Lora.Approval.WAITING)
        count = waiting.update(visibility=Lora.Visibility.EVERYONE, approval="")
        self.message_user(request, f"{count} of {len(chosen)} are for everyone now; the others did not wait.")

    @admin.action(description="Decline: not for everyone", permissions=["change"])
    def decline(self, request: HttpRequest, chosen: QuerySet[Lora]) -> None:
        count = chosen.filter(approval=Lora.Approval.WAITING).update(approval=Lora.Approval.DECLINED)
        self.message_user(request, f"{count} declined.")

    @admin.action(description="Refuse: it does not belong here", permissions=["change"])
    def refuse(self, request: HttpRequest, chosen: QuerySet[Lora]) -> None:
        by = request.user.get_username()
        chosen.update(state=Lora.State.REFUSED, reason=f"Refused by {by}, an administrator.")

    @admin.action(description="Hide: no new job may use it", permissions=["change"])
    def hide(self, request: HttpRequest, chosen: QuerySet[Lora]) -> None:
        chosen.update(hidden=True)

    @admin.action(description="Show again what was hidden", permissions=["change"])
    def show(self, request: HttpRequest, chosen: QuerySet[Lora]) -> None:
        chosen.update(hidden=False)

    @admin.action(description="Inspect the file again", permissions=["change"])
    def inspect_again(self, request: HttpRequest, chosen: QuerySet[Lora]) -> None:
        for lora in chosen:
            self.message_user(request, f"{lora}: {library.inspect_again(lora) or 'as it was uploaded'}.")

    @admin.action(description="Try again on each engine", permissions=["change"])
    def try_again(self, request: HttpRequest, chosen: QuerySet[Lora]) -> None:
        for lora in chosen:
            trial_wanted.send(Lora, lora=lora)
        self.message_user(request, f"{len(chosen)} are tried as soon as an engine has nothing else to do.")

    def delete_model(self, request: HttpRequest, obj: Lora) -> None:
        library.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Lora]) -> None:
        for lora in queryset:
            library.delete(lora)
