"""API tokens in the Authorization header: ``Bearer fx_…`` or ``Token fx_…``."""

from typing import Any

from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]
    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token"):
            return None
        if not token.isascii() or not token.strip():
            raise AuthenticationFailed("The token is missing or damaged: send Authorization: Bearer fx_…")
        user, auth = self.authenticate_credentials(token.strip().encode())
        return user, auth

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
