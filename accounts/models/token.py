"""Tokens of the API."""

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from knox.models import AbstractAuthToken

from accounts.models.user import User

USE_KEPT_EVERY = timedelta(minutes=1)
RENEWED_FOR = timedelta(days=90)
RENEWED_WITHIN = timedelta(days=14)


class ApiToken(AbstractAuthToken):  # type: ignore[misc]
    """A named token. Only its hash is kept: the token itself is shown once, when it is made."""

    # What it may do: words with spaces between, as in OAuth (RFC 6749, section 3.3).
    SCOPES: ClassVar[dict[str, str]] = {
        "generate": "draw, cancel, change pictures",
        "read": "see jobs, pictures, LoRAs, usage",
        "loras": "upload, change and delete LoRAs",
        "admin": "what administrators may: workers and engines",
    }

    SHORT: ClassVar = {"generate": "draw", "read": "read", "loras": "LoRAs", "admin": "administer"}
    DEFAULT_SCOPES: ClassVar[tuple[str, ...]] = ("generate", "read", "loras")

    name = models.CharField(max_length=100)
    scope = models.CharField(max_length=100, default="generate read loras")
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="to the minute")

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.token_key}…)"

    @classmethod
    def issue(cls, owner: User, name: str, scopes: Iterable[str], lasts: timedelta) -> str:
        """Make a token and return it, this once."""
        scope = " ".join(word for word in cls.SCOPES if word in set(scopes))
        _, token = cls.objects.create(owner, expiry=lasts, name=name, scope=scope)
        return str(token)

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.scope.split())

    @property
    def may(self) -> str:
        """Its scopes as one reads them: draw, read, LoRAs."""
        return ", ".join(self.SHORT[scope] for scope in self.scope.split() if scope in self.SHORT)

    @property
    def is_ending(self) -> bool:
        """Whether it is worth a word that it expires, or has."""
        return self.expiry is not None and self.expiry < timezone.now() + RENEWED_WITHIN

    @property
    def days_left(self) -> int:
        """Whole days until it expires, of a token that does."""
        return round((self.expiry - timezone.now()) / timedelta(days=1)) if self.expiry else 0

    def was_used(self) -> None:
        """Keep when, at most once a minute: a poll is to cost no write."""
        before = timezone.now() - USE_KEPT_EVERY
        if self.last_used_at is None or self.last_used_at < before:
            old = ApiToken.objects.filter(Q(last_used_at=None) | Q(last_used_at__lt=before), pk=self.pk)
            old.update(last_used_at=Now())

    def renew(self) -> bool:
        """Let it last for ``RENEWED_FOR`` from now on, what has expired too. False: it was revoked."""
        return bool(ApiToken.objects.filter(pk=self.pk).update(expiry=timezone.now() + RENEWED_FOR))
