"""The LoRA library."""

from typing import ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from uuid_utils.compat import uuid7

from accounts.models import User


class LoraQuerySet(models.QuerySet["Lora"]):
    def visible_to(self, user: User) -> "LoraQuerySet":
        """Those the user may see: their own, and those of everyone."""
        return self.filter(models.Q(visibility=Lora.Visibility.EVERYONE) | models.Q(owner=user))

    def usable_by(self, user: User, family: str) -> "LoraQuerySet":
        """Those a job of the user may name on a model of ``family``."""
        return self.visible_to(user).filter(state=Lora.State.READY, family=family)


class Lora(models.Model):
    """A LoRA file and what is known about it. The file's name on disk is its hash, given by us."""

    class State(models.TextChoices):
        VALIDATING = "validating"
        READY = "ready"
        REFUSED = "refused"

    class Visibility(models.TextChoices):
        PRIVATE = "private"
        EVERYONE = "everyone"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="loras"
    )
    slug = models.SlugField(max_length=80, unique=True, validators=[RegexValidator(r"^[a-z0-9\-]+\Z")])
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    trigger_words = models.JSONField(default=list, help_text="words of the prompt that the LoRA answers to")
    recommended_weight = models.FloatField(default=1.0)
    file = models.FileField(max_length=200)
    sha256 = models.CharField(max_length=64, db_index=True)
    size = models.PositiveBigIntegerField(help_text="bytes")
    family = models.CharField(max_length=20, default="flux1")
    state = models.CharField(max_length=20, choices=State, default=State.VALIDATING)
    reason = models.TextField(blank=True, help_text="why it was refused")
    visibility = models.CharField(max_length=20, choices=Visibility, default=Visibility.PRIVATE)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = LoraQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = "LoRA"

    def __str__(self) -> str:
        return self.name
