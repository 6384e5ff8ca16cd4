"""What a token may do: its scopes, asked before any view of the API runs."""

from typing import TYPE_CHECKING

from django.urls import reverse
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request

from accounts.models import ApiToken

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module

READ, GENERATE, ADMIN = "read", "generate", "admin"


class HasScope(IsAuthenticated):
    """Whoever is logged in, within the scope of their token; a session has all scopes.

    Reading takes ``read``, anything else ``required_scope`` of the view, or of one ``@action`` of it
    (``generate`` where it says nothing). A view whose ``required_scope`` is ``admin`` wants that for reading
    too, and an administrator. Answers 401 without an account, and 403 with the scope that is missing.
    """

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if not super().has_permission(request, view):
            return False
        scope = scope_of(request, view)
        if isinstance(request.auth, ApiToken) and scope not in request.auth.scopes:
            raise PermissionDenied(_lacks(request.auth, scope), "missing_scope")
        if scope == ADMIN and not request.user.is_staff:
            raise PermissionDenied("Only administrators may do this.", "not_an_administrator")
        return True


def scope_of(request: Request, view: "APIView") -> str:
    """The scope that this request needs."""
    wanted: str = getattr(view, "required_scope", GENERATE)
    return READ if request.method in SAFE_METHODS and wanted != ADMIN else wanted


def _lacks(token: ApiToken, scope: str) -> str:
    page = reverse("generation:usage")
    return f"This token lacks the scope {scope} ({ApiToken.SCOPES[scope]}). Make one that has it at {page}."
