"""Which pictures a list shows."""

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from accounts.models import User
from generation.gallery_filters import pictures_of
from generation.models import Collection, ImageQuerySet
from generation.moments import moment_at
from gpu.engines import ENGINES
from loras.models import Lora

# What a moment can say.
FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2089, 1, 1, tzinfo=UTC)


class _Time(serializers.DateTimeField):
    def to_internal_value(self, value: Any) -> Any:
        time = super().to_internal_value(value)
        if not FIRST <= time <= LAST:
            raise ValidationError(f"Use a time from {FIRST:%Y} to {LAST:%Y}.")
        return time


class ImageFilter(serializers.Serializer[Any]):
    """The query of a list of pictures."""

    search_help = "Words that are all in the prompt, the seed or the names of LoRAs."
    search = serializers.CharField(required=False, max_length=400, help_text=f'{search_help} Example: "star"')
    engine = serializers.ChoiceField(ENGINES, required=False, help_text="What drew them.")
    lora = serializers.CharField(
        required=False, max_length=80, help_text='Slug of a LoRA they were drawn with. Example: "night"'
    )
    collection = serializers.UUIDField(
        required=False, help_text='Id of a collection. Example: "01937f6e-8f0a-7c3e-9d52-0a4b6f1c2d3e"'
    )
    favourite = serializers.BooleanField(
        required=False, allow_null=True, default=None, help_text="Favourites, or all others. Example: true"
    )
    trashed = serializers.BooleanField(default=False, help_text="The trash instead. Example: false")
    since = _Time(required=False, help_text='Made then or later. Example: "2026-11-01T00:00:00Z"')
    until = _Time(required=False, help_text='Made before. Example: "2026-12-01T00:00:00Z"')

    def images_of(self, user: User) -> ImageQuerySet:
        """Those that are meant, with their ``place``; of a checked filter. Raises ValidationError."""
        asked = self.validated_data
        collection = _collection(asked["collection"], user) if "collection" in asked else None
        lora = _lora(asked["lora"], user) if "lora" in asked else None
        images = pictures_of(
            user, asked.get("search", ""), asked.get("engine", ""), lora, trash=asked["trashed"],
            favourite=asked["favourite"], collection=collection,
        )  # fmt: skip
        return self._of_time(images)

    def _of_time(self, images: ImageQuerySet) -> ImageQuerySet:
        asked = self.validated_data
        if "since" in asked:
            images = images.between(first=moment_at(asked["since"]))
        if "until" in asked:
            images = images.between(end=moment_at(asked["until"]))
        return images


def _collection(pk: Any, user: User) -> Collection:
    if found := Collection.objects.visible_to(user).filter(pk=pk).first():
        return found
    raise ValidationError({"collection": "You have no such collection."})


def _lora(slug: str, user: User) -> Lora:
    if found := Lora.objects.open_to(user).filter(slug=slug).first():
        return found
    raise ValidationError({"lora": f"There is no LoRA {slug} that you may see."})
