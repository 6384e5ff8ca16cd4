"""The LoRA library."""

import secrets
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.text import slugify
from uuid_utils.compat import uuid7

from accounts.models import User, WritesChanges

MAX_WEIGHT = 4.0
# The fields in which a search looks.
SEARCHED = {"name", "trigger_words", "tags", "description"}
# Words of a search that count.
MAX_SEARCHED = 10


def is_administrator(user: User) -> bool:
    """Whether the user manages the library: sees, changes and approves what is others'."""
    return user.has_perm("loras.change_lora")


class LoraQuerySet(models.QuerySet["Lora"]):
    def visible_to(self, user: User) -> "LoraQuerySet":
        """Those the user may see: their own, those shared with a group of theirs, and those of everyone."""
        groups = models.Q(visibility=Lora.Visibility.GROUPS, pk__in=_shared_with(user))
        everyone = models.Q(visibility=Lora.Visibility.EVERYONE)
        works = models.Q(state=Lora.State.READY, hidden=False)
        return self.filter(models.Q(owner=user) | works & (groups | everyone))

    def open_to(self, user: User) -> "LoraQuerySet":
        """Those the user may look at by name: administrators all, others what is visible to them."""
        return self if is_administrator(user) else self.visible_to(user)

    def usable_by(self, user: User, family: str) -> "LoraQuerySet":
        """Those a job of the user may name on a model of ``family``."""
        return self.visible_to(user).filter(state=Lora.State.READY, family=family, hidden=False)

    def search(self, words: str) -> "LoraQuerySet":
        """Those in whose name, trigger words, tags and description each of the words is found."""
        found = self
        for word in words.casefold().split()[:MAX_SEARCHED]:
            found = found.filter(search_text__contains=word)
        return found

    def new_slug(self, name: str) -> str:
        """An address for a LoRA of this name.

        It always ends in random digits: if only the second of a name did, its owner would learn from the
        address that somebody has a private LoRA of that name.
        """
        slug = slugify(name)[:70].strip("-") or "lora"
        return f"{slug}-{secrets.token_hex(3)}"


def _shared_with(user: User) -> models.QuerySet[Any]:
    through = Lora.groups.through.objects
    return through.filter(group__in=user.groups.all()).values("lora")


class Lora(WritesChanges):
    """A LoRA file and what is known about it. The file's name on disk is its hash, given by us."""

    class State(models.TextChoices):
        VALIDATING = "validating"
        READY = "ready"
        REFUSED = "refused"

    class Visibility(models.TextChoices):
        PRIVATE = "private"
        GROUPS = "groups"
        EVERYONE = "everyone"

    class Approval(models.TextChoices):
        WAITING = "waiting"
        DECLINED = "declined"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="loras"
    )
    slug = models.SlugField(max_length=80, unique=True, validators=[RegexValidator(r"^[a-z0-9\-]+\Z")])
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    trigger_words = models.JSONField(
        default=list, blank=True, help_text="words of the prompt that the LoRA answers to"
    )
    tags = models.JSONField(default=list, blank=True, help_text="words to find it by")
    recommended_weight = models.FloatField(
        default=1.0, validators=[MinValueValidator(-MAX_WEIGHT), MaxValueValidator(MAX_WEIGHT)]
    )
    licence = models.CharField(max_length=120, blank=True, help_text="such as CC-BY-4.0")
    source_url = models.URLField(max_length=500, blank=True, help_text="where it came from")
    file = models.FileField(max_length=200)
    sha256 = models.CharField(max_length=64, db_index=True)
    size = models.PositiveBigIntegerField(help_text="bytes")
    family = models.CharField(max_length=20, default="flux1")
    facts = models.JSONField(default=dict, help_text="what inspection found: see loras.inspection.Inspection")
    state = models.CharField(max_length=20, choices=State, default=State.VALIDATING)
    reason = models.TextField(blank=True, help_text="why it was refused")
    visibility = models.CharField(max_length=20, choices=Visibility, default=Visibility.PRIVATE)
    groups = models.ManyToManyField(
        Group,
        blank=True,
        related_name="loras",
        help_text="who else may use it, where it is shared with groups",
    )
    approval = models.CharField(
        max_length=20,
        choices=Approval,
        blank=True,
        help_text="whether everyone may use it, where an administrator decides that",
    )
    hidden = models.BooleanField(default=False, help_text="no new job may use it; its owner still sees it")
    preview = models.FileField(max_length=200, blank=True, help_text="drawn with it, or chosen by its owner")
    preview_without = models.FileField(
        max_length=200, blank=True, help_text="the same drawn without it, where the preview is its trial's"
    )
    uses = models.PositiveIntegerField(default=0, help_text="jobs that were asked for with it")
    search_text = models.TextField(editable=False, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = LoraQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = "LoRA"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("loras:detail", args=[self.slug])

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Also keep what a search looks at: the database cannot fold the case of all letters.

        A save of other columns, such as the preview, leaves it: this row may have been read before a rename.
        """
        fields = kwargs.get("update_fields")
        if fields is None or SEARCHED.intersection(fields):
            words = (self.name, *self.trigger_words, *self.tags, self.description)
            self.search_text = "\n".join(words).casefold()
            if fields is not None:
                kwargs["update_fields"] = {*fields, "search_text"}
        super().save(*args, **kwargs)

    def may_be_changed_by(self, user: User) -> bool:
        return self.owner_id == user.pk or is_administrator(user)

    def groups_shown_to(self, user: User) -> list[str]:
        """Names of those that it is shared with: all for who may change it, their own for others."""
        shown = list(self.groups.all())
        if not self.may_be_changed_by(user):
            models.prefetch_related_objects([user], "groups")  # once for a list of LoRAs
            shown = [group for group in shown if group in user.groups.all()]
        return [group.name for group in shown]

    def publish(self, by: User) -> None:
        """For everyone from now on; or, where administrators decide that and ``by`` is none, ask them."""
        if settings.FLUXSITE_LORA_APPROVAL and not is_administrator(by):
            self.approval = Lora.Approval.WAITING
        else:
            self.visibility, self.approval = Lora.Visibility.EVERYONE, ""

    def share(self, visibility: str, by: User) -> None:
        """Set who may use it; not yet saved."""
        if visibility == Lora.Visibility.EVERYONE != self.visibility:
            self.publish(by)
        else:
            self.visibility, self.approval = visibility, ""


class Admission(WritesChanges):
    """What came of the trial of a LoRA on an engine. Without a row it was not tried."""

    class State(models.TextChoices):
        TRYING = "trying"
        WORKS = "works"
        REFUSED = "refused"
        # Not the LoRA's fault, as far as anybody knows.
        UNDECIDED = "undecided"

    lora = models.ForeignKey(Lora, on_delete=models.CASCADE, related_name="admissions")
    engine = models.CharField(max_length=20)
    state = models.CharField(max_length=20, choices=State, default=State.TRYING)
    reason = models.TextField(blank=True, help_text="why it does not work there, or was not tried")
    begun_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["-engine"]  # FP4 first
        constraints: ClassVar = [models.UniqueConstraint("lora", "engine", name="one_admission_per_engine")]

    def __str__(self) -> str:
        return f"{self.lora} on {self.engine}: {self.state}"


class SeededLora(models.Model):
    """A LoRA of the demo model that was put into the library once, whatever became of it."""

    slug = models.SlugField(primary_key=True, max_length=80)

    def __str__(self) -> str:
        return self.slug


# An upload of which nothing arrived for so long has lost its reservation: its process or its client is gone.
UPLOAD_LEASE = timedelta(minutes=5)


class UploadQuerySet(models.QuerySet["Upload"]):
    def alive(self) -> "UploadQuerySet":
        """Those that still hold their room."""
        return self.filter(renewed_at__gt=Now() - UPLOAD_LEASE)

    def awaited(self, host: str) -> int:
        """Bytes that are reserved on the disk of a host, and not written yet."""
        left = models.Sum(models.F("size") - models.F("written"), default=0)
        return int(self.filter(host=host).aggregate(left=left)["left"])


class Upload(models.Model):
    """Room reserved for a file that is on its way in; gone when it has arrived, or did not.

    The reservation holds while bytes arrive: ``renewed_at`` is the last time that it was renewed.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads")
    size = models.PositiveBigIntegerField(help_text="bytes announced, the most that may come")
    written = models.PositiveBigIntegerField(default=0, help_text="bytes of it that are on the disk, about")
    host = models.CharField(max_length=255, default="", help_text="whose disk it is written to")
    created_at = models.DateTimeField(auto_now_add=True)
    renewed_at = models.DateTimeField(db_default=Now())

    objects = UploadQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.size:,} bytes of {self.owner}"
