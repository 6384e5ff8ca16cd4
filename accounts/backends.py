"""Log in with the user name or the email address, in any case."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from accounts.models import User


class UsernameOrEmailBackend(ModelBackend):
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        if not username or password is None:
            return None
        user = User.objects.typed(username).first()
        if user is None:
            User().set_password(password)  # takes as long as a check, so that timing tells no names
            return None
        return user if user.check_password(password) and self.user_can_authenticate(user) else None
