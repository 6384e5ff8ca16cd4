"""A picture as settings of the form: what it says, fitted to the model and to the LoRAs one may use."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q
from django.utils.text import slugify

from accounts.models import User
from generation import limits, png_metadata
from generation.aspects import aspects_of
from generation.forms import USUAL_STEPS
from generation.infotext import Infotext, Tag
from generation.png_metadata import Recipe
from gpu.engines import ENGINES
from gpu.model_card import ModelCard
from loras.models import Lora, LoraQuerySet

# Sentences that are shown; of odder files the rest is counted.
MAX_NOTES = 20
# LoRAs that are looked for.
MAX_WANTED = 32
# Shorter ones would find files by chance; AutoV1, the shortest kind, has 8.
_HASH = re.compile(r"[0-9a-f]{8,64}")
# Settings of other programs that have nothing to say here, or that are told together with another.
_SILENT = {
    "Steps", "Seed", "Size", "Sampler", "Schedule type", "CFG scale", "Distilled CFG Scale", "Model",
    "Model hash", "Version", "TI hashes", "VAE hash", "User", "Created Date", "Module 1", "Module 2",
    "Module 3",
}  # fmt: skip


@dataclass
class Settings:
    """What the form is filled with, as ``forms.prefilled`` gives it; what found no place, in sentences."""

    asked: dict[str, Any] = field(default_factory=lambda: {"loras": []})
    unmapped: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        self.unmapped.append(sentence)

    @property
    def shown(self) -> list[str]:
        more = len(self.unmapped) - MAX_NOTES
        return [*self.unmapped[:MAX_NOTES], *([f"And {more} more"] if more > 0 else [])]


def settings_of(png: bytes, user: User, card: ModelCard) -> Settings:
    """The settings of a PNG file for a form of ``user`` on the model of ``card``.

    Raises UnreadablePicture with a sentence where there are none.
    """
    found = png_metadata.read(png)
    if found.recipe:
        return _of_ours(found.recipe, user, card)
    size = found.width, found.height
    return _of_others(found.infotext or Infotext(""), size, user, card)


def _of_ours(recipe: Recipe, user: User, card: ModelCard) -> Settings:
    settings = Settings()
    _take_prompt(settings, recipe.prompt)
    _take_size(settings, recipe.width, recipe.height, card)
    _take_number(settings, "seed", str(recipe.seed), limits.MAX_SEED, 0)
    _take_number(settings, "steps", str(recipe.steps), limits.MAX_STEPS, 1)
    if recipe.engine in ENGINES:
        settings.asked["engine"] = recipe.engine
    else:
        settings.note(f"Engine {_short(recipe.engine)}: there is none of this name here")
    if recipe.model != card.name:
        settings.note(f"Model {_short(recipe.model)}: {card.name} draws here")
    if recipe.batch_size > 1:
        settings.note(f"Drawn in a batch of {recipe.batch_size}; alone it differs in its last digits")
    if recipe.vae_tiling:
        settings.note("Decoded in tiles, for want of memory; with more of it the picture differs a little")
    wanted = [Wanted(lora.name, lora.weight, lora.sha256.lower(), lora.slug) for lora in recipe.loras]
    _take_loras(settings, wanted, Lora.objects.usable_by(user, card.family))
    return settings


def _of_others(told: Infotext, size: tuple[int, int], user: User, card: ModelCard) -> Settings:
    settings, details = Settings(), told.details
    _take_prompt(settings, told.prompt)
    if told.negative_prompt:
        settings.note(f"Negative prompt: {card.name} takes none")
    _take_size(settings, *_told_size(details.get("Size", ""), size), card)
    _take_number(settings, "seed", details.get("Seed", ""), limits.MAX_SEED, 0)
    _take_number(settings, "steps", details.get("Steps", ""), limits.MAX_STEPS, 1)
    if settings.asked.get("steps", USUAL_STEPS) > USUAL_STEPS:
        settings.note(f"Steps {settings.asked['steps']} are set, but {card.name} is made for {USUAL_STEPS}")
    _note_others(settings, told, card)
    _take_loras(settings, map(_wanted, told.loras), Lora.objects.usable_by(user, card.family))
    return settings


def _told_size(text: str, size: tuple[int, int]) -> tuple[int, int]:
    """The size that was asked for; the picture's own, perhaps enlarged later, where none was told."""
    told = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    return (int(told[1]), int(told[2])) if told else size


def _take_prompt(settings: Settings, prompt: str) -> None:
    settings.asked["prompt"] = prompt[: limits.MAX_PROMPT]
    if len(prompt) > limits.MAX_PROMPT:
        settings.note(f"Prompt: only the first {limits.MAX_PROMPT:,} of {len(prompt):,} characters")


def _take_number(settings: Settings, name: str, text: str, most: int, least: int) -> None:
    if not text:
        return
    if re.fullmatch(r"\d{1,16}", text) and least <= int(text) <= most:
        settings.asked[name] = int(text)
    else:
        settings.note(f"{name.capitalize()} {_short(text)}: use a whole number from {least} to {most}")


def _take_size(settings: Settings, width: int, height: int, card: ModelCard) -> None:
    """The size; where the model cannot draw it, the offered one that is nearest in shape."""
    if not fits(card, width, height):
        shape = math.log(max(1, width) / max(1, height))
        near = min(aspects_of(card), key=lambda one: abs(math.log(one.width / one.height) - shape))
        settings.note(
            f"Size {width} × {height}: {card.name} draws sides of {card.sides}, at most {card.max_pixels:,} "
            f"pixels; {near.width} × {near.height} is the nearest shape"
        )
        width, height = near.width, near.height
    settings.asked |= {"width": width, "height": height}


def fits(card: ModelCard, width: int, height: int) -> bool:
    sides = all(s % card.side_step == 0 and card.min_side <= s <= card.max_side for s in (width, height))
    return sides and width * height <= card.max_pixels


def _note_others(settings: Settings, told: Infotext, card: ModelCard) -> None:
    """What other programs can set and we cannot."""
    details = told.details
    sampler = " ".join(filter(None, (details.get("Sampler"), _schedule(details))))
    if sampler not in ("", png_metadata.SAMPLER):
        settings.note(f"Sampler {_short(sampler)}: {card.name} is drawn with {png_metadata.SAMPLER}")
    for name in ("CFG scale", "Distilled CFG Scale"):
        if details.get(name, "1") not in ("1", "1.0"):
            settings.note(f"{name} {_short(details[name])}: {card.name} is drawn without guidance")
    if (model := details.get("Model", "")) and _folded(model) not in _folded(card.name):
        known = f" (hash {_short(details['Model hash'])})" if "Model hash" in details else ""
        settings.note(f"Model {_short(model)}{known}: {card.name} draws here")
    for name in told.hypernets:
        settings.note(f"Hypernetwork {_short(name)}: there are none for this model")
    for name, value in details.items():
        if name not in _SILENT:
            settings.note(f"{name} {_short(value)}: there is no such setting here")


def _schedule(details: dict[str, str]) -> str:
    schedule = details.get("Schedule type", "")
    return "" if schedule in ("Automatic", "Simple") else schedule


def _folded(name: str) -> str:
    """A model's name without what programs write differently: ``flux1-schnell``, ``FLUX.1-schnell``."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:59]}…"


# LoRAs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A LoRA that a picture names. ``hash``: in hex, of any kind that is in use, or empty."""

    name: str
    weight: float | None
    hash: str = ""
    slug: str = ""
    second: str = ""

    def is_file_of(self, lora: Lora) -> bool:
        """By its sha256, the beginning of it (AutoV2), or that of what follows the header (AutoV3)."""
        hashes = (lora.sha256, str(lora.facts.get("auto_v3", "")))
        return bool(_HASH.fullmatch(self.hash)) and any(one.startswith(self.hash) for one in hashes)

    def is_name_of(self, lora: Lora) -> bool:
        names = {self.slug, *_slugs(self.name)} - {""}
        return lora.slug in names or lora.name.casefold() == self.name.casefold()

    @property
    def shown(self) -> str:
        return f"LoRA {_short(self.name)}" + (f" (hash {self.hash[:10]})" if self.hash else "")


def _wanted(tag: Tag) -> Wanted:
    return Wanted(tag.name, tag.weight, tag.hash.lower(), second=tag.second)


def _slugs(name: str) -> set[str]:
    """How a LoRA of this file name may be called here."""
    return {slugify(name), slugify(name.replace("_", "-"))}


def _take_loras(settings: Settings, named: Iterable[Wanted], usable: LoraQuerySet) -> None:
    every = list(named)
    wanted, more = every[:MAX_WANTED], every[MAX_WANTED:]
    candidates = _candidates(usable, wanted)
    chosen: dict[str, float | None] = {}
    for one in wanted:
        lora = _match(one, candidates)
        if lora is None:
            settings.note(f"{one.shown}: not in the library")
        elif lora.slug in chosen or len(chosen) == limits.MAX_LORAS:
            settings.note(f"{one.shown}: left out; each is used once, and {limits.MAX_LORAS} at most")
        else:
            chosen[lora.slug] = _weight(settings, one)
            if one.hash and not one.is_file_of(lora):
                settings.note(f"{one.shown}: the library's {lora.name} is another file")
    settings.asked["loras"] = [{"slug": slug, "weight": weight} for slug, weight in chosen.items()]
    if more:
        settings.note(f"LoRAs: only the first {MAX_WANTED} of {MAX_WANTED + len(more)} were looked for")


def _candidates(usable: LoraQuerySet, wanted: list[Wanted]) -> list[Lora]:
    """All that could be meant, in one query."""
    found = Q(pk=None)
    for one in wanted:
        if "\0" in one.slug + one.name:  # PostgreSQL takes none
            continue
        found |= Q(slug__in={one.slug, *_slugs(one.name)} - {""}) | Q(name__iexact=one.name)
        if _HASH.fullmatch(one.hash):
            found |= Q(sha256__startswith=one.hash) | Q(facts__auto_v3__startswith=one.hash)
    return list(usable.filter(found).order_by("pk")) if wanted else []


def _match(wanted: Wanted, candidates: list[Lora]) -> Lora | None:
    """The same file under the same name, or else the same file, or else the same name."""
    named = [lora for lora in candidates if wanted.is_name_of(lora)]
    same = [lora for lora in candidates if wanted.is_file_of(lora)]
    both = [lora for lora in named if lora in same]
    return next(iter((*both, *same, *named)), None)


def _weight(settings: Settings, wanted: Wanted) -> float | None:
    """The weight; None, for the recommended one, where it cannot be had."""
    weight = wanted.weight
    if weight is None or not math.isfinite(weight) or abs(weight) > limits.MAX_WEIGHT:
        most = f"{limits.MAX_WEIGHT:g}"
        settings.note(f"{wanted.shown}: its weight is not from -{most} to {most}; the recommended one is set")
        return None
    if wanted.second:
        settings.note(f"{wanted.shown}: one weight for all of it, not {_short(wanted.second)} for a part")
    return weight
