"""The one-time set-up link: signed, good for a day, and only while there is no user."""

from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.urls import reverse

from accounts.models import User

MAX_AGE_SECONDS = 24 * 3600
_SALT = "accounts.setup"


def link(base_url: str) -> str | None:
    """The address where the first administrator is made; None once there is a user."""
    if User.objects.exists():
        return None
    token = signing.TimestampSigner(salt=_SALT).sign("first-administrator")
    return base_url + reverse("accounts:setup", args=[token])


def is_open(token: str) -> bool:
    """Whether ``token`` is ours, at most a day old, and still of use."""
    try:
        signing.TimestampSigner(salt=_SALT).unsign(token, max_age=MAX_AGE_SECONDS)
    except signing.BadSignature:
        return False
    return not User.objects.exists()


def create_administrator_from(username: str, password: str) -> User | None:
    """Make the first administrator without a browser; None if there is a user already or no name is given.

    Raises ValidationError when the name or the password breaks a rule.
    """
    if not username or User.objects.exists():
        return None
    User(username=username).clean_fields(exclude=["password"])
    validate_password(password, User(username=username))
    return User.objects.create_first_administrator(username, password)
