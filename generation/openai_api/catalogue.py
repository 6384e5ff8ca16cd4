"""What models are called: the studio's, one of its engines, or either with a LoRA, as ``name-fp4:lora``."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from django.conf import settings
from django.utils.text import slugify
from rest_framework.exceptions import NotFound

from accounts.models import User
from generation import engine_states
from gpu.engines import ENGINES
from gpu.model_card import ModelCard
from loras.models import Lora

# Nobody knows when a model was made; a LoRA's date is that of its upload.
UNKNOWN_DATE = 0


class ModelNotFound(NotFound):
    default_code = "model_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no model {name} that you may use. Use {base_name()}, or see /v1/models.")
        self.param = "model"


@dataclass(frozen=True)
class Choice:
    """What draws. ``lora``: a slug, None without one."""

    engine: str
    lora: str | None


def base_name() -> str:
    """Of the studio's model, on the engine that draws soonest."""
    return slugify(_card().name)


def models(user: User) -> list[dict[str, Any]]:
    """All that ``user`` may name, in OpenAI's words. Aliases work, and are not listed."""
    loras = _usable(user).values_list("slug", "created_at")
    return [
        *(_entry(name, UNKNOWN_DATE) for name in _engines()),
        *(_entry(f"{base_name()}:{slug}", int(created.timestamp())) for slug, created in loras),
    ]


def model(name: str, user: User) -> dict[str, Any]:
    """The one of this name. Raises ModelNotFound."""
    choice = choose(name, user)
    created = UNKNOWN_DATE
    if choice.lora:
        created = int(_usable(user).get(slug=choice.lora).created_at.timestamp())
    return _entry(name, created)


def choose(name: str | None, user: User) -> Choice:
    """What draws where a client asks for ``name``; without one the studio's model. Raises ModelNotFound."""
    model, _, lora = (name or base_name()).partition(":")
    is_alias = any(fnmatchcase(model, alias) for alias in settings.FLUXSITE_OPENAI_ALIASES)
    engine = _engines().get(base_name() if is_alias else model)
    if engine is None or "\0" in lora or (lora and not _usable(user).filter(slug=lora).exists()):
        raise ModelNotFound(name or "")
    return Choice(engine, lora or None)


def recommended_weights(slugs: list[str], user: User) -> dict[str, float]:
    """Of those LoRAs that ``user`` may use."""
    return dict(_usable(user).filter(slug__in=slugs).values_list("slug", "recommended_weight"))


def _engines() -> dict[str, str]:
    """The engine that each name means."""
    soonest = engine_states.best(engine_states.engine_states())
    return {base_name(): soonest, **{f"{base_name()}-{engine}": engine for engine in ENGINES}}


def _usable(user: User) -> Any:
    return Lora.objects.usable_by(user, _card().family)


def _card() -> ModelCard:
    return ModelCard.of(settings.FLUXSITE_MODEL)


def _entry(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "fluxsite"}
