"""LoRAs as the API shows and takes them."""

from typing import Any, ClassVar

from django.contrib.auth.models import Group
from rest_framework import serializers

from loras.forms import groups_of
from loras.models import MAX_WEIGHT, Admission, Lora

Words = dict[str, Any]


class AdmissionSerializer(serializers.ModelSerializer[Admission]):
    """``state``: trying, works, refused or undecided, with ``reason``."""

    class Meta:
        model = Admission
        fields = ("engine", "state", "reason")


class LoraSerializer(serializers.ModelSerializer[Lora]):
    """A LoRA. ``state`` is validating, ready or refused, with ``reason``; ``size`` is in bytes."""

    owner = serializers.CharField(source="owner.username", default="", read_only=True)
    engines = AdmissionSerializer(source="admissions", many=True, read_only=True)
    groups: Any = serializers.SlugRelatedField("name", many=True, read_only=True)
    download = serializers.HyperlinkedIdentityField(view_name="loras-api:lora-download", lookup_field="slug")

    class Meta:
        model = Lora
        fields = (
            "slug", "name", "description", "trigger_words", "tags", "recommended_weight", "licence",
            "source_url", "visibility", "groups", "approval", "hidden", "owner", "uses",
            "family", "state", "reason", "engines", "size", "sha256", "facts", "created_at", "download",
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

    groups = serializers.SlugRelatedField(
        "name", many=True, required=False, queryset=Group.objects.all(), help_text="names of your groups"
    )

    class Meta:
        model = Lora
        fields = (
            "name", "description", "trigger_words", "tags", "recommended_weight", "licence", "source_url",
            "visibility", "groups",
        )  # fmt: skip
        extra_kwargs: ClassVar[Words] = {"visibility": {"required": False}}

    def validate_groups(self, groups: list[Group]) -> list[Group]:
        allowed = set(groups_of(self.context["request"].user))
        for group in groups:
            if group not in allowed:
                raise serializers.ValidationError(f"You are not in a group {group.name}.")
        return groups

    def update(self, lora: Lora, said: Words) -> Lora:
        by = said.pop("by")
        lora.share(said.pop("visibility", lora.visibility), by)
        return super().update(lora, said)


class LoraUpload(LoraChanges):
    """A file, and what may be said of it; without a name the file's own title, or its name, is taken."""

    file = serializers.FileField(write_only=True)
    name = serializers.CharField(max_length=120, required=False)

    class Meta(LoraChanges.Meta):
        fields = ("file", *LoraChanges.Meta.fields)  # type: ignore[assignment]


class LoraFile(serializers.Serializer[Any]):
    file = serializers.FileField()
