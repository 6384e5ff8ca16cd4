"""The LoRA library."""

import secrets
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.text import slugify
from uuid_utils.compat import uuid7

from accounts.models import User

MAX_WEIGHT = 4.0


class LoraQuerySet(models.QuerySet["Lora"]):
    def visible_to(self, user: User) -> "LoraQuerySet":
        """Those the user may see: their own, those shared with a group of theirs, and those of everyone."""
        groups = models.Q(visibility=Lora.Visibility.GROUPS, pk__in=_shared_with(user))
        everyone = models.Q(visibility=Lora.Visibility.EVERYONE)
        return self.filter(models.Q(owner=user) | groups | everyone)

    def usable_by(self, user: User, family: str) -> "LoraQuerySet":
        """Those a job of the user may name on a model of ``family``."""
        return self.visible_to(user).filter(state=Lora.State.READY, family=family)

    def free_slug(self, name: str) -> str:
        """An address for a LoRA of this name that no other has."""
        slug = slugify(name)[:70].strip("-") or "lora"
        return f"{slug}-{secrets.token_hex(3)}" if self.filter(slug=slug).exists() else slug


def _shared_with(user: User) -> models.QuerySet[Any]:
    through = Lora.groups.through.objects
    return through.filter(group__in=user.groups.all()).values("lora")


class Lora(models.Model):
    """A LoRA file and what is known about it. The file's name on disk is its hash, given by us."""

    class State(models.TextChoices):
        VALIDATING = "validating"
        READY = "ready"
        REFUSED = "refused"

    class Visibility(models.TextChoices):
        PRIVATE = "private"
        GROUPS = "groups"
        EVERYONE = "everyone"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="loras"
    )
    slug = models.SlugField(max_length=80, unique=True, validators=[RegexValidator(r"^[a-z0-9\-]+\Z")])
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    trigger_words = models.JSONField(default=list, help_text="words of the prompt that the LoRA answers to")
    tags = models.JSONField(default=list, help_text="words to find it by")
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
    created_at = models.DateTimeField(auto_now_add=True)

    objects = LoraQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = "LoRA"

    def __str__(self) -> str:
        return self.name


class Upload(models.Model):
    """Room reserved for a file that is on its way in; gone when it has arrived, or did not."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads")
    size = models.PositiveBigIntegerField(help_text="bytes announced, the most that may come")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.size:,} bytes of {self.owner}"
