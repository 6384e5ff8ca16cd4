"""Who may do what on pages of ours that stand beside the admin: the same people as there."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from accounts.models import User

Answer = TypeVar("Answer", bound=HttpResponseBase)
View = Callable[..., Answer]


def administers(user: User, what: str) -> bool:
    """Whether the user is staff and has this permission of ``accounts``; superusers have all of them."""
    return user.is_staff and user.has_perm(f"accounts.{what}")


def for_administrators(what: str) -> Callable[[View[Answer]], View[Answer]]:
    """403 for whoever has not this permission."""

    def guard(view: View[Answer]) -> View[Answer]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Answer:
            if not (isinstance(request.user, User) and administers(request.user, what)):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded

    return guard
