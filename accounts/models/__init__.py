"""People, their API tokens, what they may use and what they used."""

from accounts.models.canonical_form import canonical
from accounts.models.changes import Deleted, WritesChanges
from accounts.models.invitation import Invitation, InvitationClosed, InvitationQuerySet
from accounts.models.token import RENEWED_FOR, RENEWED_WITHIN, ApiToken
from accounts.models.usage import Quota, UsageEntry
from accounts.models.user import (
    EMAIL_TAKEN,
    AlreadySetUp,
    LastAdministrator,
    Offboarding,
    User,
    UserManager,
)

__all__ = [
    "EMAIL_TAKEN",
    "RENEWED_FOR",
    "RENEWED_WITHIN",
    "AlreadySetUp",
    "ApiToken",
    "Deleted",
    "Invitation",
    "InvitationClosed",
    "InvitationQuerySet",
    "LastAdministrator",
    "Offboarding",
    "Quota",
    "UsageEntry",
    "User",
    "UserManager",
    "WritesChanges",
    "canonical",
]
