"""What a job may ask for, checked: the page and the API both go through ``JobRequest``."""

import math
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ValidationError
from rest_framework.serializers import CharField, FloatField, IntegerField, Serializer

from generation import limits
from gpu.engines import ENGINES
from gpu.model_card import ModelCard
from loras.models import Admission, Lora

_WEIGHT = f"Use a number from -{limits.MAX_WEIGHT:g} to {limits.MAX_WEIGHT:g}."
_SIDE = "The model says which fit; left out, its usual one."
_PROMPT = "Write a prompt: what should the picture show?"


class NoUnknownFields(Serializer[Any]):
    """A misspelt field is an error, not a silent default."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if unknown := sorted(set(data) - set(self.fields)):
            allowed = ", ".join(self.fields)
            raise ValidationError(
                dict.fromkeys(unknown, f"There is no field of this name. Allowed: {allowed}.")
            )
        return value


def whole(low: int, high: int, **options: Any) -> IntegerField:
    """A whole number from ``low`` to ``high``, which the message names."""
    allowed = f"Use a whole number from {low} to {high}."
    reasons = ("invalid", "max_string_length", "min_value", "max_value")
    messages: dict[str, Any] = dict.fromkeys(reasons, allowed)
    return IntegerField(min_value=low, max_value=high, error_messages=messages, **options)


def side(**options: Any) -> IntegerField:
    """A side in pixels. What fits is the model's to say: see ``JobRequest._fitting``."""
    return IntegerField(error_messages={"invalid": "Use a whole number of pixels."}, **options)


class LoraChoice(NoUnknownFields):
    """A LoRA to draw with."""

    slug = CharField(max_length=80, help_text='Its address in the library. Example: "night"')
    weight = FloatField(
        default=1.0,
        error_messages={"invalid": _WEIGHT},
        help_text=f"How strong it is, from -{limits.MAX_WEIGHT:g} to {limits.MAX_WEIGHT:g}. Example: 0.8",
    )

    def validate_weight(self, weight: float) -> float:
        if not math.isfinite(weight) or abs(weight) > limits.MAX_WEIGHT:
            raise ValidationError(f"{weight:g} is out of range. {_WEIGHT}")
        return weight


class JobRequest(NoUnknownFields):
    """A job as it is asked for. Sides in pixels; a seed left out is chosen and recorded.

    Needs ``context={"owner": user}``: the LoRAs must be theirs to use.
    """

    prompt = CharField(
        error_messages={"blank": _PROMPT, "required": _PROMPT},
        help_text=f"What the pictures should show, in at most {limits.MAX_PROMPT:,} characters. "
        'Example: "a big yellow star on a blue background"',
    )
    width = side(required=False, help_text=f"In pixels. {_SIDE} Example: 128")
    height = side(required=False, help_text=f"In pixels. {_SIDE} Example: 128")
    count = whole(1, limits.MAX_COUNT, default=1, help_text="Pictures. Example: 1")
    seed = whole(
        0,
        limits.MAX_SEED,
        required=False,
        allow_null=True,
        default=None,
        help_text="Of the first picture, each next one has the next; left out, one is chosen. Example: 42",
    )
    steps = whole(1, limits.MAX_STEPS, default=4, help_text="Of each picture. Example: 4")
    engine = CharField(default="bf16", help_text=f'{" or ".join(ENGINES)}. Example: "bf16"')
    loras = LoraChoice(many=True, default=list, help_text=f"At most {limits.MAX_LORAS}, each once.")

    @property
    def card(self) -> ModelCard:
        return ModelCard.of(settings.FLUXSITE_MODEL)

    def validate_prompt(self, prompt: str) -> str:
        if len(prompt) > limits.MAX_PROMPT:
            raise ValidationError(f"{len(prompt):,} characters. Use at most {limits.MAX_PROMPT:,}.")
        return prompt

    def validate_width(self, side: int) -> int:
        return self._fitting(side)

    def validate_height(self, side: int) -> int:
        return self._fitting(side)

    def _fitting(self, side: int) -> int:
        card = self.card
        if side % card.side_step or not card.min_side <= side <= card.max_side:
            raise ValidationError(f"{side} does not fit {card.name}. Use {card.sides}.")
        return side

    def validate_engine(self, engine: str) -> str:
        if engine not in ENGINES:
            raise ValidationError(f"There is no engine {engine}. Use {' or '.join(ENGINES)}.")
        return engine

    def validate_loras(self, choices: list[dict[str, Any]]) -> list[tuple[Lora, float]]:
        """Turn slugs into LoRAs that the owner may use, in the order given."""
        if not choices:  # nothing to ask the database
            return []
        slugs = [choice["slug"] for choice in choices]
        if len(slugs) > limits.MAX_LORAS:
            raise ValidationError(f"{len(slugs)} LoRAs. Use at most {limits.MAX_LORAS}.")
        if len(set(slugs)) < len(slugs):
            raise ValidationError("A LoRA is named twice. Name each once, with the weight you want.")
        usable = Lora.objects.usable_by(self.context["owner"], self.card.family).filter(slug__in=slugs)
        found = {lora.slug: lora for lora in usable}
        for slug in slugs:
            if slug not in found:
                raise ValidationError(f"There is no LoRA {slug} that you may use.")
        return [(found[choice["slug"]], choice["weight"]) for choice in choices]

    def validate(self, job: dict[str, Any]) -> dict[str, Any]:
        """Fill in the sides, then check what depends on two fields."""
        job.setdefault("width", self.card.default_side)
        job.setdefault("height", self.card.default_side)
        self._check_pixels(job["width"], job["height"])
        self._check_last_seed(job["seed"], job["count"])
        self._check_admitted([lora for lora, _ in job["loras"]], job["engine"])
        return job

    @staticmethod
    def _check_admitted(loras: list[Lora], engine: str) -> None:
        refused = Admission.objects.filter(lora__in=loras, engine=engine, state=Admission.State.REFUSED)
        for admission in refused.select_related("lora") if loras else ():
            others = [other.upper() for other in ENGINES if other != engine]
            raise ValidationError(
                {
                    "loras": f"{admission.lora.name} does not work on {engine.upper()}: {admission.reason} "
                    f"Use {' or '.join(others)}."
                }
            )

    def _check_pixels(self, width: int, height: int) -> None:
        most = self.card.max_pixels
        if width * height > most:
            raise ValidationError(
                {"width": f"{width} × {height} is more than {most:,} pixels. Use a smaller side."}
            )

    @staticmethod
    def _check_last_seed(seed: int | None, count: int) -> None:
        top = limits.MAX_SEED - count + 1
        if seed is not None and seed > top:
            raise ValidationError({"seed": f"With {count} pictures use a whole number from 0 to {top}."})
