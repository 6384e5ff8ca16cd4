"""Which models the admin shows: the studio's own, and those of libraries that are listed here."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.db.models.base import ModelBase

OWN_APPS = {"accounts", "files", "fluxsite", "generation", "gpu", "loras", "operations"}
# Quotas and LoRAs are shared by group, so administrators make groups.
ADMITTED = {"auth.Group"}


class StudioAdminSite(admin.AdminSite):
    """Ignores what libraries register by themselves.

    An editable row of a library is a way in that nobody decided on: whoever might edit the schedules of
    django-q2 could name any function for it to run.
    """

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[admin.ModelAdmin[Any]] | None = None,
        **options: Any,
    ) -> None:
        models = [model_or_iterable] if isinstance(model_or_iterable, ModelBase) else model_or_iterable
        super().register([model for model in models if _is_admitted(model)], admin_class, **options)


def _is_admitted(model: type[Model]) -> bool:
    return model._meta.app_label in OWN_APPS or model._meta.label in ADMITTED
