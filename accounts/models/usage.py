"""What people may use, and what they used."""

from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import connections, models
from django.db.models import Q
from django.db.models.functions import Now
from django.db.models.lookups import IsNull

from accounts.models.changes import WritesChanges
from accounts.models.user import User

# Asked before each job, and so in SQL: Django takes 0.6 ms to build it, and this takes 0.04 ms (SQLite).
_HOLDING = """
SELECT * FROM accounts_quota
WHERE user_id = %(user)s OR (user_id IS NULL AND group_id IS NULL)
OR group_id IN (SELECT group_id FROM accounts_user_groups WHERE user_id = %(user)s)
ORDER BY id
"""


class QuotaQuerySet(models.QuerySet["Quota"]):
    def holding_for(self, user: User, *, lock: bool = False) -> list["Quota"]:
        """The quotas that a job of ``user`` must keep: their own, or else everyone's, and their groups'.

        ``lock``: of several transactions that ask so at once one goes on and the others wait for it.
        """
        database = connections[self.db]
        locks = lock and database.features.has_select_for_update
        # ``no_key``: rows that point to them may come in meanwhile.
        sql = _HOLDING + (database.ops.for_update_sql(no_key=True) if locks else "")
        rows = list(self.raw(sql, {"user": user.pk}).prefetch_related("group"))
        has_own = any(row.user_id for row in rows)
        return [row for row in rows if row.user_id or row.group_id or not has_own]


class Quota(WritesChanges):
    """What somebody may use. An empty limit is no limit.

    Of a user: theirs alone. Of a group: what its members may use *together*. Of neither: of each user
    who has none of their own.
    """

    LIMITS = ("images_a_day", "gpu_seconds_a_day", "pending_jobs", "storage_mb")

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="quota",
        help_text="leave user and group empty for everyone without a quota of their own",
    )  # fmt: skip
    group = models.OneToOneField(
        Group, null=True, blank=True, on_delete=models.CASCADE, related_name="quota",
        help_text="its members share these limits",
    )  # fmt: skip
    images_a_day = models.PositiveIntegerField(null=True, blank=True, help_text="pictures from midnight on")
    gpu_seconds_a_day = models.PositiveIntegerField(
        null=True, blank=True, help_text="seconds in which a GPU draws, from midnight on"
    )
    pending_jobs = models.PositiveIntegerField(
        null=True, blank=True, help_text="jobs that wait or are drawn at the same time"
    )
    storage_mb = models.PositiveIntegerField(
        null=True, blank=True, help_text="pictures and LoRAs kept, in MB of a million bytes"
    )

    objects = QuotaQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(user=None) | Q(group=None), name="quota_of_user_or_group",
                violation_error_message="Choose a user or a group, not both.",
            ),
            models.UniqueConstraint(
                IsNull(models.F("user"), True), condition=Q(user=None, group=None),
                name="one_quota_for_everyone",
                violation_error_message="There is a quota for everyone already. Change that one.",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"quota of {self.user or self.group or 'everyone'}"

    def of(self, user: User, relation: str) -> models.Q:
        """Rows that count: those whose ``relation`` leads to ``user``, or to anybody of the group."""
        return Q(**{f"{relation}__groups": self.group} if self.group else {relation: user})


class UsageEntry(models.Model):
    """The ledger: one entry for each attempt at a job, written when the attempt is over, never changed."""

    class Outcome(models.TextChoices):
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        LOST = "lost", "worker died or fell silent"
        DEVICE_FAILED = "device_failed"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="usage",
        help_text="nobody: the studio itself",
    )  # fmt: skip
    # No foreign key: the ledger outlives jobs, and accounts do not know them.
    job = models.UUIDField()
    attempt = models.PositiveSmallIntegerField()
    engine = models.CharField(max_length=20)
    worker = models.CharField(max_length=360, blank=True, help_text="host/device/engine")
    gpu_seconds = models.FloatField(
        help_text="drawing; of an attempt that was lost, all the time from its start to its last sign"
    )
    images = models.PositiveSmallIntegerField(help_text="pictures stored")
    outcome = models.CharField(max_length=20, choices=Outcome)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "usage entries"
        constraints: ClassVar = [models.UniqueConstraint("job", "attempt", name="one_entry_per_attempt")]
        indexes: ClassVar = [
            # Holds what sums ask for, so that they read no row.
            models.Index(fields=["user", "created_at", "gpu_seconds", "images"], name="usage_of_user"),
            models.Index(fields=["worker", "created_at"], name="usage_of_worker"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.images} pictures, {self.gpu_seconds:.1f} s ({self.outcome})"
