"""LoRAs as the API shows and takes them."""

import json
from typing import Any, ClassVar

from django.contrib.auth.models import Group
from rest_framework import serializers

from loras.forms import groups_of
from loras.models import MAX_WEIGHT, Admission, Lora

Words = dict[str, Any]
# What the schema says of a LoRA: text, and an example.
_SAID: dict[str, tuple[str, Any]] = {
    "slug": ("Its address, and what jobs call it.", "night"),
    "name": ("What people call it, in at most 120 characters.", "Night"),
    "description": ("In at most 4,000 characters.", "Midnight blue, moonlight."),
    "recommended_weight": ("How strong it is best, from -4 to 4.", 0.8),
    "licence": ("Of the file.", "CC-BY-4.0"),
    "source_url": ("Where it came from.", "https://example.org/night"),
    "visibility": ("Who may use it.", "private"),
    "hidden": ("Whether no new job may use it.", False),
    "uses": ("Jobs that were asked for with it.", 12),
    "family": ("Of the models that it is for.", "flux1"),
    "state": ("Jobs may use it when it is ready.", "ready"),
    "reason": ("Why it was refused.", ""),
    "size": ("Bytes of the file.", 19088744),
    "sha256": ("Of the file, in hexadecimal.", "ab" * 32),
    "created_at": ("When it was uploaded.", "2026-11-25T21:10:41.123456Z"),
}
_TRIGGERS = 'Words of the prompt that it answers to. Example: ["midnight"]'
_TAGS = 'Words to find it by. Example: ["style"]'


def _said(*fields: str, **more: Words) -> Words:
    texts = {field: f"{_SAID[field][0]} Example: {json.dumps(_SAID[field][1])}" for field in fields}
    return {field: {"help_text": text, **more.get(field, {})} for field, text in texts.items()}


class AdmissionSerializer(serializers.ModelSerializer[Admission]):
    """``state``: trying, works, refused or undecided, with ``reason``."""

    class Meta:
        model = Admission
        fields = ("engine", "state", "reason")
        read_only_fields = fields
        extra_kwargs: ClassVar[Words] = {
            "engine": {"help_text": 'What it was tried on. Example: "fp4"'},
            "state": {"help_text": "What the trial has shown."},
            "reason": {"help_text": 'Why it does not work there, or was not tried. Example: ""'},
        }


class LoraSerializer(serializers.ModelSerializer[Lora]):
    """A LoRA. ``state`` is validating, ready or refused, with ``reason``; ``size`` is in bytes."""

    owner = serializers.CharField(
        source="owner.username", default="", read_only=True,
        help_text='Whose it is; empty: the studio\'s. Example: "ana"',
    )  # fmt: skip
    engines = AdmissionSerializer(
        source="admissions", many=True, read_only=True, help_text="What trials have shown."
    )
    groups = serializers.SerializerMethodField(
        help_text='With whom it is shared; of what is not yours, those that you are in. Example: ["team"]'
    )
    download = serializers.HyperlinkedIdentityField(
        view_name="loras-api:lora-download", lookup_field="slug",
        help_text="Where the file is, for its owner. "
        'Example: "http://localhost:8000/api/v1/loras/night/download/"',
    )  # fmt: skip
    approval = serializers.CharField(
        read_only=True,
        help_text='waiting or declined, where an administrator decides on everyone; else empty. Example: ""',
    )
    source_url = serializers.CharField(
        read_only=True, help_text='Where it came from, or empty. Example: "https://example.org/night"'
    )
    trigger_words: Any = serializers.ListField(
        child=serializers.CharField(), read_only=True, help_text=_TRIGGERS
    )
    tags: Any = serializers.ListField(child=serializers.CharField(), read_only=True, help_text=_TAGS)
    facts = serializers.DictField(
        read_only=True, help_text='What was read from the file. Example: {"rank": 16, "modules": 304}'
    )

    class Meta:
        model = Lora
        fields = (
            "slug", "name", "description", "trigger_words", "tags", "recommended_weight", "licence",
            "source_url", "visibility", "groups", "approval", "hidden", "owner", "uses",
            "family", "state", "reason", "engines", "size", "sha256", "facts", "created_at", "download",
        )  # fmt: skip
        read_only_fields = fields
        extra_kwargs: ClassVar[Words] = _said(*_SAID)

    def get_groups(self, lora: Lora) -> list[str]:
        return lora.groups_shown_to(self.context["request"].user)


class GroupField(serializers.SlugRelatedField[Group]):
    """A group that the user may share with. Of others nobody learns whether they exist."""

    default_error_messages: ClassVar = {
        "does_not_exist": "There is no group {value} that you may share with."
    }

    def get_queryset(self) -> Any:
        return groups_of(self.context["request"].user)

    def to_internal_value(self, name: Any) -> Group:
        if "\0" in str(name):  # PostgreSQL takes none
            self.fail("does_not_exist", value=name)
        return super().to_internal_value(name)


class LoraChanges(serializers.ModelSerializer[Lora]):
    """What an owner may say of a LoRA."""

    name = serializers.CharField(max_length=120, **_said("name")["name"])
    description = serializers.CharField(
        max_length=4000, required=False, allow_blank=True, **_said("description")["description"]
    )
    trigger_words = serializers.ListField(
        child=serializers.CharField(max_length=100), max_length=20, required=False, help_text=_TRIGGERS
    )
    tags = serializers.ListField(
        child=serializers.CharField(max_length=40), max_length=30, required=False, help_text=_TAGS
    )
    recommended_weight = serializers.FloatField(
        min_value=-MAX_WEIGHT, max_value=MAX_WEIGHT, required=False,
        **_said("recommended_weight")["recommended_weight"],
    )  # fmt: skip

    groups = GroupField(
        "name", many=True, required=False, queryset=Group.objects.none(),
        help_text='Names of your groups, with whom it is shared. Example: ["team"]',
    )  # fmt: skip

    class Meta:
        model = Lora
        fields = (
            "name", "description", "trigger_words", "tags", "recommended_weight", "licence", "source_url",
            "visibility", "groups",
        )  # fmt: skip
        extra_kwargs: ClassVar[Words] = _said(
            "licence", "source_url", "visibility", visibility={"required": False}
        )

    def update(self, lora: Lora, said: Words) -> Lora:
        """A change without ``visibility`` leaves the request to share it with everyone as it is."""
        by = said.pop("by")
        if "visibility" in said:
            lora.share(said.pop("visibility"), by)
        return super().update(lora, said)


class LoraUpload(LoraChanges):
    """A file, and what may be said of it; without a name the file's own title, or its name, is taken."""

    file = serializers.FileField(write_only=True, help_text="The .safetensors file.")
    name = serializers.CharField(max_length=120, required=False, **_said("name")["name"])

    class Meta(LoraChanges.Meta):
        fields = ("file", *LoraChanges.Meta.fields)  # type: ignore[assignment]


class LoraFile(serializers.Serializer[Any]):
    file = serializers.FileField(help_text="The .safetensors file.")


class InspectionSerializer(serializers.Serializer[Any]):
    """What a file is: these, and more of ``loras.inspection.Inspection``."""

    admissible = serializers.BooleanField(help_text="Whether it would be taken. Example: true")
    reason = serializers.CharField(help_text='Why not. Example: ""')
    family = serializers.CharField(help_text='Of the models that it is for. Example: "flux1"')
    sha256 = serializers.CharField(help_text=f'Of the file, in hexadecimal. Example: "{"ab" * 32}"')
    size = serializers.IntegerField(help_text="Bytes. Example: 19088744")
