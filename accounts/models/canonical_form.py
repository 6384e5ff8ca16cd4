"""One form for all spellings of a name, kept in a column of its own, so that the database compares it.

SQLite's LOWER knows ASCII letters only, and PostgreSQL's depends on the locale: by them, ``Élise`` and
``élise`` are two people on one database and one person on the other.
"""

import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from django.db import models

# In characters. Each takes 4 bytes at most, and PostgreSQL indexes values of up to 2,704 bytes.
MOST = 640


def canonical(text: str) -> str:
    """The text without differences of case, width or composition (Unicode's D146 with NFKC at the end)."""
    folded = unicodedata.normalize("NFD", text[:MOST]).casefold()
    folded = unicodedata.normalize("NFKD", folded).casefold()
    return unicodedata.normalize("NFKC", folded)[:MOST]


class CanonicalField(models.CharField[str, str]):
    """Holds the canonical form of the field ``of``. Whatever writes that field through the ORM writes both.

    ``save`` and ``bulk_create`` call ``pre_save``; ``WritesChanges.save`` and ``update`` call the functions
    below.
    """

    def __init__(self, of: str, **options: Any) -> None:
        self.of = of
        super().__init__(**{"max_length": MOST, "default": "", "editable": False, "blank": True, **options})

    def deconstruct(self) -> tuple[str, str, Any, dict[str, Any]]:
        name, path, args, options = super().deconstruct()
        return name, path, args, {**options, "of": self.of}

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        value = canonical(getattr(model_instance, self.of))
        setattr(model_instance, self.attname, value)
        return value


def canonical_fields(model: type[models.Model]) -> list[CanonicalField]:
    return [field for field in model._meta.concrete_fields if isinstance(field, CanonicalField)]


def with_their_forms(model: type[models.Model], names: Collection[str]) -> set[str]:
    """The names of fields, and those of the canonical forms that change with them."""
    return {*names, *(field.name for field in canonical_fields(model) if field.of in names)}


def forms_of(model: type[models.Model], columns: Mapping[str, Any]) -> dict[str, str]:
    """The canonical forms of what ``update`` writes. An expression has none: only the database knows it."""
    changed = [field for field in canonical_fields(model) if field.of in columns]
    if wrong := [field.of for field in changed if not isinstance(columns[field.of], str)]:
        raise TypeError(f"update() of {', '.join(wrong)} needs a text, of which the canonical form is kept.")
    return {field.name: canonical(columns[field.of]) for field in changed}
