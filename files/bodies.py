"""Which views take a file in their body, and how long it may be. All others take a small body without one.

The views that are marked here refuse what is longer before they read it; ``fluxsite.bodies`` does so for all
others.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt, csrf_protect

View = TypeVar("View", bound=Callable[..., Any])
Page = Callable[..., HttpResponseBase]
# What a form sends beside its file, in bytes.
ENVELOPE = 10_000


def takes_file(most: Callable[[], int]) -> Callable[[View], View]:
    """Mark a view, or a viewset's action, that takes a file of ``most()`` bytes and refuses a longer one."""

    def marked(view: View) -> View:
        view.file_limit = most  # type: ignore[attr-defined]
        return view

    return marked


def file_limit(callback: Any, method: str) -> int | None:
    """The largest file that the view of an address takes by this method, in bytes; None: it takes none."""
    actions = getattr(callback, "actions", None) or {}
    view = getattr(getattr(callback, "cls", None), actions.get(method.lower(), ""), callback)
    limit = getattr(view, "file_limit", None)
    return limit() if limit and method == "POST" else None


def ignores_body(callback: Any) -> bool:
    """Whether the view of an address answers whatever the body is, and reads nothing of it."""
    return bool(getattr(getattr(callback, "cls", None), "ignores_body", False))


def bounded_upload(most: int, refused: Page) -> Callable[[Page], Page]:
    """For a page whose form has a file of at most ``most`` bytes; ``refused`` answers where it is longer.

    The check of CSRF comes second, as it reads the form: the view must not be open to people without account.
    """

    def bounded(view: Page) -> Page:
        @takes_file(lambda: most)
        @csrf_exempt
        @wraps(view)
        def receive(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            announced = str(request.META.get("CONTENT_LENGTH", ""))
            if announced.isdecimal() and int(announced) > most + ENVELOPE:
                return refused(request, *args, **kwargs)
            return csrf_protect(view)(request, *args, **kwargs)

        return receive

    return bounded
