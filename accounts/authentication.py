"""API tokens in the Authorization header: ``Bearer fx_…`` or ``Token fx_…``."""

from typing import Any

from django.utils import timezone
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import ApiToken, User
from accounts.permissions import ADMIN


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]
    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token"):
            return None
        if not token.isascii() or not token.strip():
            raise AuthenticationFailed("The token is missing or damaged: send Authorization: Bearer fx_…")
        return self.authenticate_credentials(token.strip().encode())

    def authenticate_credentials(self, token: bytes) -> tuple[User, ApiToken]:
        """One look-up by the hash, where knox takes two; and what has expired stays, to be renewed."""
        row = ApiToken.objects.select_related("user").filter(digest=hash_token(token.decode())).first()
        if row is None:
            raise AuthenticationFailed("There is no such token, or it was revoked.")
        if row.expiry and row.expiry < timezone.now():
            raise AuthenticationFailed("This token has expired. Renew it, or make another.")
        if not row.user.is_active:
            raise AuthenticationFailed("The account of this token is switched off. Ask a studio admin.")
        row.was_used()
        row.user.may_administer = ADMIN in row.scopes
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
