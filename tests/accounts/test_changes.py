"""No form, serializer or admin writes columns that it does not show."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.apps import apps
from django.contrib import admin
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework import serializers

from accounts.models import Deleted, Quota, User, WritesChanges
from generation.models import Collection
from loras.models import Lora
from tests.belongings import everything_of

# The API only shows these: no view gives such a serializer anything to save.
SHOWN = {"ApiToken", "Job", "JobLora"}
OURS = {"accounts", "loras", "generation", "gpu", "operations"}

# What product code may call save() of without saying what is written: forms and serializers, which the first
# test here checks, and an Admission, which is a WritesChanges.
SAVES_CHANGES = {"form", "changes", "asked", "self", "super", "admission"}


def below(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


def written() -> set[Any]:
    """The models of ours that a form, a serializer or the admin may change."""
    import_module("fluxsite.urls")  # all views, and so all forms and serializers
    found: set[Any] = {one._meta.model for one in below(forms.ModelForm)}
    found |= {one.Meta.model for one in below(serializers.ModelSerializer) if takes_changes(one)}
    found |= {model for model, shown in admin.site._registry.items() if is_editable(model, shown)}
    return {model for model in found if model and model._meta.app_label in OURS}


def takes_changes(serializer: Any) -> bool:
    """Whether a field that is a column of the model may be sent."""
    meta = getattr(serializer, "Meta", None)
    return bool(meta) and any(not field.read_only for field in serializer().get_fields().values())


def is_editable(model: Any, shown: Any) -> bool:
    columns = {field.name for field in model._meta.concrete_fields if field.editable}
    may_change = type(shown).has_change_permission is admin.ModelAdmin.has_change_permission
    return may_change and bool(columns - {"id"} - set(shown.readonly_fields))


def test_whatever_may_be_changed_is_saved_by_its_changes() -> None:
    assert {User, Lora, Collection, Quota} <= written()
    others = {model.__name__ for model in written() if not issubclass(model, WritesChanges)}
    assert others <= SHOWN


@pytest.mark.django_db
@pytest.mark.parametrize("model", [one for one in apps.get_models() if issubclass(one, WritesChanges)])
def test_saving_what_was_not_changed_writes_nothing(model: Any, alice: User) -> None:
    everything_of(alice)
    for row in model.objects.all()[:1]:
        with CaptureQueriesContext(connection) as queries:
            row.save()
        assert [one["sql"] for one in queries if one["sql"].startswith("UPDATE")] == []


@pytest.mark.django_db
def test_one_column_is_written_where_one_was_changed(alice: User) -> None:
    mine = User.objects.get(pk=alice.pk)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    mine.first_name = "Alice"
    mine.save()
    alice.refresh_from_db()
    assert (alice.first_name, alice.is_active) == ("Alice", False)


@pytest.mark.django_db
def test_a_list_that_was_changed_in_place_is_written(alice: User) -> None:
    everything_of(alice)
    lora = Lora.objects.get()
    lora.tags.append("new")
    lora.save()
    assert "new" in Lora.objects.get().tags


@pytest.mark.django_db
def test_a_row_that_was_deleted_meanwhile_does_not_return(alice: User) -> None:
    collection = Collection.objects.create(owner=alice, name="Best")
    mine = Collection.objects.get(pk=collection.pk)
    collection.delete()
    mine.name = "Better"
    with pytest.raises(Deleted), transaction.atomic():
        mine.save()
    assert not Collection.objects.exists()


def says_what_it_writes(call: ast.Call) -> bool:
    return bool({"update_fields", "force_insert"} & {keyword.arg for keyword in call.keywords})


def saved_whole(source: str) -> set[str]:
    """On what ``save`` is called with nothing to save (files and pictures are given one) and no columns."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    saves = {
        call.func.value: call
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "save" and not says_what_it_writes(call)
    }
    return {
        ast.unparse(row).removesuffix("()")
        for row, call in saves.items()
        if not call.args or "super" in ast.unparse(row)
    }


def test_the_walk_over_the_source_sees_a_row_that_is_saved_whole() -> None:
    assert saved_whole("lora.save()") == {"lora"}
    assert saved_whole("lora.save(update_fields=['hidden']); storage.save(name, file)") == set()


def test_no_code_saves_all_columns_of_a_row() -> None:
    root = Path(__file__).parents[2]
    sources = [path for app in OURS for path in (root / app).rglob("*.py") if "migrations" not in path.parts]
    assert len(sources) > 100
    found = {(path.name, row) for path in sources for row in saved_whole(path.read_text())}
    assert {row for _, row in found} <= SAVES_CHANGES, found


@pytest.mark.django_db
def test_a_save_of_some_columns_leaves_the_other_changes_to_the_next(alice: User) -> None:
    everything_of(alice)
    lora = Lora.objects.get()
    lora.name = "Mist"
    lora.save(update_fields=["hidden"])
    lora.save()
    assert Lora.objects.get().name == "Mist"


@pytest.mark.django_db
def test_reading_a_deferred_column_forgets_no_change(alice: User) -> None:
    everything_of(alice)
    lora = Lora.objects.only("name", "trigger_words", "tags").get()
    lora.name = "Mist"
    assert lora.licence is not None
    lora.save()
    assert Lora.objects.get().name == "Mist"
