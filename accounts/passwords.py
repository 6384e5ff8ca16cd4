"""What a password must be."""

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.password_validation import MinimumLengthValidator
from django.core.exceptions import ValidationError


class LengthValidator(MinimumLengthValidator):
    """Says how long the password is and how long it should be."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        if len(password) < self.min_length:
            count = f"{len(password)} character{'' if len(password) == 1 else 's'}"
            raise ValidationError(
                f"{count}. Use {self.min_length} or more, a few words work well.", code="password_too_short"
            )
