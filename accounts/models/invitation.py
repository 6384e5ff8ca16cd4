"""Links that make an account."""

from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import Group
from django.core import signing
from django.db import models, transaction
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.models.changes import WritesChanges
from accounts.models.user import User

_invitations = signing.Signer(salt="accounts.invitation")


class InvitationClosed(Exception):
    """It was used, has expired, or was revoked."""


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> "InvitationQuerySet":
        return self.filter(used_at=None, expires_at__gt=Now())

    def of_token(self, token: str) -> "InvitationQuerySet":
        """The open invitation with this token, or nothing."""
        try:
            pk = UUID(_invitations.unsign(token))
        except (signing.BadSignature, ValueError):
            return self.none()
        return self.open().filter(pk=pk)

    def revoke(self) -> int:
        """Delete the open ones; returns how many. One that is being used at this moment stays."""
        with transaction.atomic():
            pks = list(
                self.open().order_by("pk").select_for_update(of=("self",)).values_list("pk", flat=True)
            )
            Invitation.objects.filter(pk__in=pks).delete()
        return len(pks)


class Invitation(WritesChanges):
    """Lets one person make an account of their own, once, until it expires. Deleting it revokes it.

    The token is the signed id: nobody can guess one, and none is stored.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="invitations"
    )
    email = models.EmailField(blank=True, help_text="of the new account; empty if they choose it themselves")
    groups = models.ManyToManyField(Group, blank=True, help_text="that the new account is in from the start")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    used_by = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="invitation"
    )

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at"]

    def __str__(self) -> str:
        return f"invitation for {self.email or 'anybody with the link'}"

    @property
    def token(self) -> str:
        return _invitations.sign(self.pk.hex)

    def accept(self, username: str, password: str, **fields: Any) -> User:
        """Make the account, once. Raises InvitationClosed, and IntegrityError where the name was taken
        meanwhile: then the invitation stays open.
        """
        with transaction.atomic():
            if not Invitation.objects.open().filter(pk=self.pk).update(used_at=Now()):
                raise InvitationClosed
            user = User.objects.create_user(username, password=password, **fields)
            user.groups.set(self.groups.all())
            Invitation.objects.filter(pk=self.pk).update(used_by=user)
            return user
