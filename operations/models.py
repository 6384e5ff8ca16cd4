"""The policy of the cleanup as administrators changed it, and what each cleanup did."""

from typing import ClassVar
from uuid import UUID, uuid4

from django.db import models
from django.db.models.functions import Now

from accounts.models import WritesChanges


class Kind(models.TextChoices):
    """What can be cleaned away."""

    TRASH = "trash", "pictures in the trash"
    PICTURES = "pictures", "pictures that are no favourites"
    UPLOADS = "uploads", "uploads that never ended"
    TEMPORARY = "temporary", "temporary files"
    ORPHANS = "orphans", "files that no row names, moved to the quarantine"
    QUARANTINE = "quarantine", "files in the quarantine"
    JOBS = "jobs", "jobs that are over and have no pictures"
    LOGS = "logs", "older log files"
    TOKENS = "tokens", "expired API tokens"
    SESSIONS = "sessions", "expired sessions"
    SHARES = "shares", "expired or revoked shares"
    INVITATIONS = "invitations", "expired or used invitations"


class Studio(models.Model):
    """The identity of the studio that this database belongs to; there is one row at most.

    The storage has the same id in a file: see ``operations.studio``.
    """

    ONLY = 1

    number = models.PositiveSmallIntegerField(primary_key=True, default=ONLY, editable=False)
    id = models.UUIDField(default=uuid4, editable=False)
    release = models.CharField(
        max_length=40, default="", editable=False, help_text="the newest one that migrated the database"
    )

    class Meta:
        verbose_name = "studio"
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(number=1), name="one_studio_per_database")
        ]

    def __str__(self) -> str:
        return str(self.id)

    @classmethod
    def current_id(cls) -> UUID:
        """The id of this database's studio, which is made when it is first asked for."""
        return cls.objects.get_or_create(number=cls.ONLY)[0].id


class Rule(WritesChanges):
    """Stands in for what ``FLUXSITE_CLEANUP`` says of a kind."""

    kind = models.CharField(primary_key=True, max_length=20, choices=Kind)
    on = models.BooleanField(default=True, help_text="whether any of it is deleted")
    days = models.PositiveIntegerField(
        null=True, blank=True, help_text="what is older is deleted; empty: age alone deletes nothing"
    )
    megabytes = models.PositiveIntegerField(
        null=True, blank=True,
        help_text="while it takes more, in MB of a million bytes, the oldest is deleted; empty: no limit",
    )  # fmt: skip

    class Meta:
        verbose_name = "cleanup rule"

    def __str__(self) -> str:
        return Kind(self.kind).label


class Damage(models.Model):
    """What ``manage.py verify --repair`` found wrong with the file of a row, and could not mend."""

    model = models.CharField(max_length=100, help_text="such as generation.Image")
    row = models.UUIDField()
    file = models.CharField(max_length=200)
    what = models.CharField(max_length=20, choices={"missing": "missing", "changed": "its hash is another"})
    found_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "damaged file"
        constraints: ClassVar = [models.UniqueConstraint("file", name="one_damage_per_file")]

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


class Cleanup(models.Model):
    """A run of ``manage.py cleanup``. Without an end it is under way, or was killed."""

    host = models.CharField(
        max_length=255, default="", help_text="whose own files it looked at, besides what all share"
    )
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)
    deleted = models.PositiveIntegerField(default=0, help_text="files and rows")
    bytes = models.PositiveBigIntegerField(default=0)
    by_kind = models.JSONField(default=dict, help_text="[how many, bytes] of each kind")
    error = models.TextField(blank=True, help_text="what could not be deleted, and why")

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {self.deleted} deleted"
