"""Which models the admin shows: the studio's own, and those of libraries that are listed here.

The admin writes the columns that somebody changed in its form, and no others.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.db.models.base import ModelBase
from django.forms import ModelForm
from django.http import HttpRequest

OWN_APPS = {"accounts", "files", "fluxsite", "generation", "gpu", "loras", "operations"}
# Quotas and LoRAs are shared by group, so administrators make groups.
ADMITTED = {"auth.Group"}


class SavesChanges(admin.ModelAdmin[Any]):
    """Saves the columns that the form changed, also those of models that would write all of them.

    Django writes all columns: whoever set an engine's queue limit took back a pause of the same moment, and
    a token that was revoked meanwhile was inserted again.
    """

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        if change:
            columns = {field.name for field in obj._meta.concrete_fields}
            obj.save(update_fields=columns.intersection(form.changed_data))
        else:
            super().save_model(request, obj, form, change)


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
        bases = (admin_class, SavesChanges) if admin_class else (SavesChanges,)
        saves_changes = type(bases[0].__name__, bases, {"__module__": bases[0].__module__})
        super().register([model for model in models if _is_admitted(model)], saves_changes, **options)


def _is_admitted(model: type[Model]) -> bool:
    return model._meta.app_label in OWN_APPS or model._meta.label in ADMITTED
