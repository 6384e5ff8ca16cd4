"""Every address of the product, with real objects in the places of its parameters."""

import re
from collections.abc import Iterator, Mapping

from django.contrib import admin
from django.db.models import Model
from django.urls import URLPattern, URLResolver, get_resolver, reverse

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
_API = re.compile(r"^(api/)?v1/")


def routes(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[str]:
    """The patterns of all addresses but the admin's, such as ``images/<uuid:pk>/``."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            if "(?P<" not in route:  # what answers in the place of everything that is not there
                yield route
        elif not route.startswith("admin/"):
            yield from routes(entry, route)


def folder_of(route: str) -> str:
    """What the first parameter of a route belongs to: ``images`` of ``api/v1/images/<uuid:pk>/file/``."""
    return _API.sub("", _PARAMETER.split(route)[0]).strip("/") if _PARAMETER.search(route) else ""


def path(route: str, objects: Mapping[str, str]) -> str:
    """The address of ``objects`` (see ``tests.belongings.everything_of``) by this route."""

    def stands_for(parameter: re.Match[str]) -> str:
        before = _API.sub("", _PARAMETER.sub(r"<\1>", route[: parameter.start()])).strip("/")
        assert before in objects, (
            f"Nothing is known to stand for {parameter[0]} in {route}. "
            f'Add "{before}" to what everything_of() in tests/belongings.py returns.'
        )
        return objects[before]

    return "/" + _PARAMETER.sub(stands_for, route)


def admin_paths(*apps: str) -> Iterator[str]:
    """The admin's index and, of each model of ``apps`` (of all, if there are none), its list and the pages of
    one row.
    """
    yield reverse("admin:index")
    for model in admin.site._registry:
        if not apps or model._meta.app_label in apps:
            yield from _admin_paths_of(model)


def _admin_paths_of(model: type[Model]) -> Iterator[str]:
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    yield reverse(f"{name}_changelist")
    row = model._default_manager.order_by("-pk").first()
    for page in ("change", "history", "delete") if row else ():
        yield reverse(f"{name}_{page}", args=[row.pk])  # type: ignore[union-attr]
