"""The Generate form as plain HTML sends it, and as the page shows it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from django.http import HttpRequest, QueryDict

from accounts.models import User
from generation import forecast
from generation.aspects import Aspect, aspects_of
from generation.engine_states import EngineState
from generation.models import Job
from generation.quotas import Balance, balances
from gpu.model_card import ModelCard
from loras.models import Lora, LoraQuerySet

_PLAIN = ("prompt", "count", "seed", "steps", "engine")
# What "Remix" takes over from a job; the seed comes on top.
_KEPT = ("prompt", "width", "height", "count", "steps", "engine")
OWN_SIZE = "own"
# LoRAs to pick from at once; the others are found by searching.
PICKED = 48
# What the model is made for.
USUAL_STEPS = 4
# Different prompts that are offered again, and the jobs in which they are looked for.
LAST_PROMPTS, AMONG_JOBS = 50, 300


def asked_in(post: QueryDict) -> dict[str, Any]:
    """The fields of a posted form, as the API takes them; those left empty are left out.

    ``size`` is a choice such as ``144x96``, or ``own`` and then ``width`` and ``height`` count.
    A LoRA is a ticked box ``lora`` with its slug; its weight is the field ``weight-<slug>``.
    """
    asked: dict[str, Any] = {name: post[name] for name in _PLAIN if post.get(name)}
    if "prompt" in asked:  # a form ends lines with CRLF; a script, and so every other job, with LF
        asked["prompt"] = asked["prompt"].replace("\r\n", "\n")
    asked |= {name: value for name, value in _sides(post).items() if value}
    asked["loras"] = [
        {"slug": slug, "weight": post.get(f"weight-{slug}", "1")} for slug in post.getlist("lora")
    ]
    return asked


def _sides(post: QueryDict) -> dict[str, str]:
    size = post.get("size", OWN_SIZE)
    width, _, height = size.partition("x")
    if size == OWN_SIZE:
        width, height = post.get("width", ""), post.get("height", "")
    return {"width": width, "height": height}


def prefilled(request: HttpRequest) -> dict[str, Any]:
    """What the form starts with: the job of ``?from=``, or the prompt of the job of ``?prompt_from=``, or
    ``?prompt=``, with ``?lora=``; and ``?seed=``.
    """
    form: dict[str, Any] = {"prompt": request.GET.get("prompt", ""), "loras": []}
    if job := _job_named(request, "prompt_from"):
        form["prompt"] = job.prompt
    if job := _job_named(request, "from"):
        form = {name: getattr(job, name) for name in _KEPT}
        form["loras"] = [
            {"slug": chosen.slug, "weight": chosen.weight, "name": chosen.name}
            for chosen in job.job_loras.all()
        ]
    elif slug := request.GET.get("lora"):
        form["loras"] = [{"slug": slug, "weight": None}]
    if seed := request.GET.get("seed"):
        form["seed"] = seed
    return form


def _job_named(request: HttpRequest, name: str) -> Job | None:
    try:
        pk = UUID(request.GET.get(name, ""))
    except ValueError:
        return None
    return Job.objects.visible_to(cast(User, request.user)).filter(pk=pk).first()


def last_prompts(user: User) -> list[Job]:
    """The newest job of each of the user's last prompts, newest first."""
    jobs = Job.objects.visible_to(user).order_by("-id").only("prompt")[:AMONG_JOBS]
    newest: dict[str, Job] = {}
    for job in jobs:
        newest.setdefault(job.prompt, job)
    return list(newest.values())[:LAST_PROMPTS]


def field_errors(errors: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, str]:
    """The errors of a ``JobRequest`` by the form's field: one sentence each."""
    found = {_field(name): _sentence(error) for name, error in errors.items()}
    of_loras = errors.get("loras")
    if isinstance(of_loras, dict):  # by place
        del found["loras"]
        for place, error in of_loras.items():
            slug = asked["loras"][int(place)]["slug"]
            found[f"weight-{slug}"] = _sentence(next(iter(error.values())))
    return found


def _field(name: str) -> str:
    if name in ("width", "height"):
        return "size"
    return name if name in (*_PLAIN, "loras") else "form"


def _sentence(error: Any) -> str:
    return str(error[0] if isinstance(error, list) else error)


@dataclass(frozen=True)
class SizeChoice:
    """What the size part of the form shows: the aspects, the chosen value, and the numbers of an own size."""

    aspects: list[Aspect]
    chosen: str
    width: Any
    height: Any


def size_choice(asked: Mapping[str, Any], card: ModelCard) -> SizeChoice:
    aspects = aspects_of(card)
    width, height = asked.get("width", card.default_side), asked.get("height", card.default_side)
    value = f"{width}x{height}"
    is_offered = value in {aspect.value for aspect in aspects}
    return SizeChoice(aspects, value if is_offered else OWN_SIZE, width, height)


@dataclass(frozen=True)
class EngineTile:
    """An engine in the form. ``seconds``: a picture as it is chosen now; None where unknown.

    ``speed``: for the page's script, as JSON: the seconds a picture of some sizes and steps takes, and
    the seconds by pixel and step that hold for all others; empty where unknown.
    """

    now: EngineState
    seconds: float | None
    speed: str


def engine_tiles(
    states: Iterable[EngineState], size: SizeChoice, asked: Mapping[str, Any]
) -> list[EngineTile]:
    steps = asked.get("steps", USUAL_STEPS)
    return [
        EngineTile(
            state, _seconds(state.name, size.width, size.height, steps), _speed(state.name, size.aspects)
        )
        for state in states
    ]


def _seconds(engine: str, width: Any, height: Any, steps: Any) -> float | None:
    """How long one picture takes; None where that is unknown or what was typed is no number."""
    try:
        job = Job(engine=engine, width=int(width), height=int(height), steps=int(steps), count=1)
    except ValueError:
        return None
    return forecast.seconds_of(job)


def _speed(engine: str, aspects: Iterable[Aspect]) -> str:
    rate = _seconds(engine, 1, 1, 1)
    if rate is None:
        return ""
    each = {
        f"{aspect.value}x{USUAL_STEPS}": _seconds(engine, aspect.width, aspect.height, USUAL_STEPS)
        for aspect in aspects
    }
    return json.dumps({"rate": rate, "each": each})


def pictures_today(user: User) -> Balance | None:
    """The limit of pictures a day that is reached first, the user's own or a group's; None without one."""
    limited = [one for one in balances(user) if one.name == "images_a_day" and one.limit is not None]
    return min(limited, key=lambda one: (one.limit or 0) - one.taken, default=None)


@dataclass(frozen=True)
class LoraBox:
    """A LoRA in the form: whether it is chosen, and how strongly it acts."""

    lora: Lora
    chosen: bool
    weight: str
    error: str = ""


def lora_boxes(usable: LoraQuerySet, asked: Mapping[str, Any], errors: Mapping[str, str]) -> list[LoraBox]:
    """A box for each chosen LoRA, in the order they were chosen, and for those that are used most.

    The list to pick from fetches the others when they are searched for.
    """
    weights = {chosen["slug"]: chosen["weight"] for chosen in asked["loras"]}
    order = {slug: place for place, slug in enumerate(weights)}
    chosen = usable.filter(slug__in=[slug for slug in weights if "\0" not in slug])
    loras = {lora.slug: lora for lora in (*chosen, *most_used(usable))}.values()
    return sorted(
        (
            LoraBox(
                lora,
                lora.slug in weights,
                _two_places(_or_recommended(weights.get(lora.slug), lora)),
                errors.get(f"weight-{lora.slug}", ""),
            )
            for lora in loras
        ),
        key=lambda box: order.get(box.lora.slug, len(order)),
    )


def most_used(usable: LoraQuerySet) -> list[Lora]:
    """As many as the list to pick from shows at once."""
    return list(usable.order_by("-uses", "name", "pk")[:PICKED])


def _or_recommended(weight: Any, lora: Lora) -> Any:
    return lora.recommended_weight if weight is None else weight


def _two_places(weight: Any) -> str:
    """A weight as the form writes it; what somebody typed stays as it is."""
    return f"{weight:.2f}" if isinstance(weight, float) else str(weight)


def missing_loras(asked: Mapping[str, Any], boxes: Iterable[LoraBox]) -> list[str]:
    """Names of LoRAs that an earlier job used and that cannot be used now."""
    usable = {box.lora.slug for box in boxes}
    return [chosen["name"] for chosen in asked["loras"] if "name" in chosen and chosen["slug"] not in usable]
