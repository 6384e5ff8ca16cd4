"""A request of OpenAI's, turned into a job's: what the model cannot draw is refused, never changed."""

import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ValidationError
from rest_framework.serializers import BooleanField, ChoiceField, Serializer

from accounts.models import User
from generation.job_request import JobRequest, whole
from generation.openai_api import catalogue
from gpu.model_card import ModelCard

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
# What a job calls them, and what OpenAI does.
_NAMES = {"count": "n", "width": "size", "height": "size", "engine": "model"}


def _choice(*allowed: str, **options: Any) -> Any:
    sentence = f"“{{input}}” cannot be had. Use {' or '.join(allowed)}."
    return ChoiceField(allowed, error_messages={"invalid_choice": sentence}, required=False, **options)


class Delivery(Serializer[Any]):
    """How the pictures are to come. Pictures are never transparent."""

    response_format = _choice("b64_json", "url", default="b64_json")
    output_format = _choice("png", "webp", "jpeg", default="png")
    output_compression = whole(0, 100, default=100)
    background = _choice("auto", "opaque", default="auto")
    stream = BooleanField(default=False)
    partial_images = whole(0, 3, default=0)


@dataclass(frozen=True)
class ImagesRequest:
    """``job``: the checked fields of a job. ``compression``: quality of WebP and JPEG, in percent."""

    job: dict[str, Any]
    response_format: str
    output_format: str
    compression: int
    stream: bool
    partial_images: int


def read(body: Any, user: User) -> ImagesRequest:
    """Check a body. What is null counts as left out, and what we do not know is ignored, as clients expect.

    Raises ValidationError by OpenAI's names of the fields, and ModelNotFound.
    """
    if not isinstance(body, dict):
        raise ValidationError("The body must be a JSON object.")
    said = {name: value for name, value in body.items() if value is not None}
    delivery = Delivery(data=said)
    delivery.is_valid(raise_exception=True)
    job = JobRequest(data=_job(said, user), context={"owner": user})
    if not job.is_valid():
        raise ValidationError(_renamed(job.errors))
    how = delivery.validated_data
    return ImagesRequest(
        job.validated_data, how["response_format"], how["output_format"], how["output_compression"],
        how["stream"], how["partial_images"],
    )  # fmt: skip


def _job(said: dict[str, Any], user: User) -> dict[str, Any]:
    """What ``JobRequest`` takes."""
    name = said.get("model")
    if name is not None and not isinstance(name, str):
        raise ValidationError({"model": "Use the name of a model: see /v1/models."})
    choice = catalogue.choose(name, user)
    job: dict[str, Any] = {key: said[key] for key in ("prompt", "seed", "steps") if key in said}
    if "n" in said:
        job["count"] = said["n"]
    return {
        **job,
        **_sides(said.get("size", "auto")),
        "engine": choice.engine,
        "loras": _loras(said.get("loras", []), choice, user),
    }


def _sides(size: Any) -> dict[str, int]:
    if size == "auto":
        return {}
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None:
        raise ValidationError({"size": f"Use auto, or a size such as {_default_size()}."})
    return {"width": int(match[1]), "height": int(match[2])}


def _loras(asked: Any, choice: catalogue.Choice, user: User) -> Any:
    """With the weights that their owners recommend where none is asked for."""
    if not isinstance(asked, list) or not all(isinstance(each, dict) for each in asked):
        raise ValidationError({"loras": 'Use a list such as [{"name": "night", "weight": 0.8}].'})
    loras = [_lora(each) for each in asked]
    if choice.lora:
        loras.insert(0, {"slug": choice.lora})
    slugs = [each["slug"] for each in loras if isinstance(each.get("slug"), str)]
    weights = catalogue.recommended_weights([slug for slug in slugs if "\0" not in slug], user)
    return [{"weight": weights.get(str(each.get("slug")), 1.0), **each} for each in loras]


def _lora(asked: dict[str, Any]) -> dict[str, Any]:
    """``name`` is what the library calls ``slug``; null is left out here, too."""
    said = {name: value for name, value in asked.items() if value is not None}
    return {("slug" if name == "name" else name): value for name, value in said.items()}


def _renamed(errors: Any) -> dict[str, Any]:
    """The same by OpenAI's names; both sides are one size."""
    renamed: dict[str, Any] = {}
    for field, reasons in errors.items():
        renamed.setdefault(_NAMES.get(field, field), reasons)
    if "size" in renamed:
        renamed["size"] = [f"{reason} Or send auto, for {_default_size()}." for reason in renamed["size"]]
    return renamed


def _default_size() -> str:
    side = ModelCard.of(settings.FLUXSITE_MODEL).default_side
    return f"{side}x{side}"
