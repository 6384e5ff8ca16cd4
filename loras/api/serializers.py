"""LoRAs as the API shows and takes them."""

from typing import Any, ClassVar

from rest_framework import serializers

from loras.models import MAX_WEIGHT, Lora

Words = dict[str, Any]


class LoraSerializer(serializers.ModelSerializer[Lora]):
    """A LoRA. ``state`` is validating, ready or refused, with ``reason``; ``size`` is in bytes."""

    owner = serializers.CharField(source="owner.username", default="", read_only=True)
    download = serializers.HyperlinkedIdentityField(view_name="loras-api:lora-download", lookup_field="slug")

    class Meta:
        model = Lora
        fields = (
            "slug", "name", "description", "trigger_words", "tags", "recommended_weight", "licence",
            "source_url", "visibility", "owner", "family", "state", "reason", "size", "sha256", "facts",
            "created_at", "download",
        )  # fmt: skip


class LoraChanges(serializers.ModelSerializer[Lora]):
    """What an owner may say of a LoRA."""

    name = serializers.CharField(max_length=120)
    description = serializers.CharField(max_length=4000, required=False, allow_blank=True)
    trigger_words = serializers.ListField(
        child=serializers.CharField(max_length=100), max_length=20, required=False
    )
    tags = serializers.ListField(child=serializers.CharField(max_length=40), max_length=30, required=False)
    recommended_weight = serializers.FloatField(min_value=-MAX_WEIGHT, max_value=MAX_WEIGHT, required=False)

    class Meta:
        model = Lora
        fields = (
            "name", "description", "trigger_words", "tags", "recommended_weight", "licence", "source_url",
            "visibility",
        )  # fmt: skip
        extra_kwargs: ClassVar[Words] = {"visibility": {"required": False}}


class LoraUpload(LoraChanges):
    """A file, and what may be said of it; without a name the file's own title, or its name, is taken."""

    file = serializers.FileField(write_only=True)
    name = serializers.CharField(max_length=120, required=False)

    class Meta(LoraChanges.Meta):
        fields = ("file", *LoraChanges.Meta.fields)  # type: ignore[assignment]


class LoraFile(serializers.Serializer[Any]):
    file = serializers.FileField()
