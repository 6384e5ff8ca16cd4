"""Rows that are saved by what was changed in them, whoever saves them."""

from collections.abc import Collection, Iterable
from copy import deepcopy
from typing import Any, Self

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, models
from django.db.models.fields.files import FieldFile
from django.http import Http404

from accounts.models.canonical_form import with_their_forms


class Deleted(ObjectDoesNotExist, Http404):
    """The row was deleted after it was read. Pages and the API answer 404."""


class WritesChanges(models.Model):
    """A model whose ``save`` writes the columns that changed since the row was read, and no others.

    Django writes all columns: a form that somebody fills in slowly then takes back what somebody else changed
    meanwhile, even in columns that the form does not show. ``save`` raises Deleted if the row is gone: Django
    would insert it again.
    """

    class Meta:
        abstract = True

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **options: Any
    ) -> Self:
        row = super().from_db(db, field_names, values, **options)
        row._remember()
        return row

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        # Django calls this with one field when a deferred column is read: other changes are still unsaved.
        self._remember(args[1] if len(args) > 1 else kwargs.get("fields"))

    def save(self, *args: Any, **kwargs: Any) -> None:
        is_known = hasattr(self, "_as_read") and not self._state.adding
        if is_known and not kwargs.get("force_insert") and kwargs.get("update_fields") is None:
            kwargs["update_fields"] = self._changed()
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = with_their_forms(type(self), kwargs["update_fields"])
        try:
            super().save(*args, **kwargs)
        except DatabaseError as error:
            if is_known and "did not affect any rows" in str(error):
                raise Deleted(f"{self._meta.verbose_name} {self.pk} was deleted.") from error
            raise
        self._remember(kwargs.get("update_fields"))

    def _changed(self) -> set[str]:
        """Names of the fields that changed, and of those that hold the time of a change."""
        before, missing = self._as_read, object()
        changed = {name for name, value in self._loaded().items() if before.get(name, missing) != value}
        columns = self._meta.concrete_fields
        times = {field.name for field in columns if getattr(field, "auto_now", False)}
        return {field.name for field in columns if field.attname in changed} | (times if changed else set())

    def _remember(self, fields: Iterable[str] | None = None) -> None:
        """Take the values as those of the database; only those of ``fields``, if they are given."""
        loaded = self._loaded()
        if fields is None or not hasattr(self, "_as_read"):
            self._as_read = deepcopy(loaded)
            return
        names = set(fields)
        columns = {one.attname for one in self._meta.concrete_fields if {one.name, one.attname} & names}
        self._as_read |= deepcopy({name: loaded[name] for name in columns & loaded.keys()})

    def _loaded(self) -> dict[str, Any]:
        """The columns that this object has, by attribute; a file by its name."""
        columns = [field.attname for field in self._meta.concrete_fields if not field.primary_key]
        values = {name: self.__dict__[name] for name in columns if name in self.__dict__}
        return {name: str(one) if isinstance(one, FieldFile) else one for name, one in values.items()}
