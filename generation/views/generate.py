"""The Generate page."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from files.bodies import bounded_upload
from generation import engine_states, limits, png_metadata
from generation.dropped_picture import settings_of
from generation.forms import (
    asked_in,
    engine_tiles,
    field_errors,
    last_prompts,
    lora_boxes,
    missing_loras,
    pictures_today,
    prefilled,
    size_choice,
)
from generation.job_request import JobRequest
from generation.models import Job
from generation.png_chunks import UnreadablePicture
from generation.quotas import TooMuch
from generation.views.shared import images_of, jobs_of, user_of
from gpu.model_card import ModelCard
from loras.models import Lora

FEED = 20
RECENT = 12


@require_http_methods(["GET", "HEAD", "POST"])
def generate(request: HttpRequest) -> HttpResponse:
    """The form and the newest jobs. A POST submits without JavaScript; the script posts to the API."""
    if request.method != "POST":
        return render(request, "generation/generate.html", _form(request, prefilled(request), {}))
    return submit(request, asked_in(request.POST))


def submit(request: HttpRequest, asked: Mapping[str, Any], parent: Job | None = None) -> HttpResponse:
    """Lead to the new job; or show the form with what is wrong, and all that was asked.

    ``parent``: the job that it asks for again.
    """
    checked = JobRequest(data=asked, context={"owner": request.user})
    if not checked.is_valid():
        errors = field_errors(checked.errors, asked)
        return render(request, "generation/generate.html", _form(request, asked, errors), status=400)
    try:
        return redirect(Job.submit(user_of(request), parent=parent, **checked.validated_data))
    except TooMuch as error:
        form = _form(request, asked, {"form": str(error.detail)})
        response = render(request, "generation/generate.html", form, status=error.status_code)
        if error.wait:
            response["Retry-After"] = error.wait
        return response


def _form(request: HttpRequest, asked: Mapping[str, Any], errors: Mapping[str, str]) -> dict[str, Any]:
    """Everything the Generate page shows."""
    card = ModelCard.of(settings.FLUXSITE_MODEL)
    size = size_choice(asked, card)
    states = engine_states.engine_states()
    usable = Lora.objects.usable_by(user_of(request), card.family)
    boxes = lora_boxes(usable, asked, errors)
    return {
        "page": "generate",
        "jobs_as": "feed",
        "form": asked,
        "errors": errors,
        "limits": limits,
        "largest_picture": png_metadata.MAX_FILE,
        "size": size,
        "engines": engine_tiles(states, size, asked),
        "engine": asked.get("engine") or engine_states.best(states),
        "loras": boxes,
        "usable_loras": usable.count(),
        "missing_loras": missing_loras(asked, boxes),
        "today": pictures_today(user_of(request)),
        "jobs": jobs_of(request)[:FEED],
        "recent": images_of(request)[:RECENT],
    }


def _without_settings(request: HttpRequest, reason: str, status: int = 400) -> HttpResponse:
    """The empty form, which says why a picture gave no settings."""
    form = _form(request, {"loras": []}, {})
    return render(request, "generation/generate.html", {**form, "picture_error": reason}, status=status)


def _too_large(request: HttpRequest) -> HttpResponse:
    most = png_metadata.MAX_FILE // 1_000_000
    return _without_settings(request, f"The file is larger than {most} MB; no picture drawn here is.", 413)


@bounded_upload(png_metadata.MAX_FILE, refused=_too_large)
@require_http_methods(["GET", "HEAD", "POST"])
def settings_from_picture(request: HttpRequest) -> HttpResponse:
    """The form filled with the settings of the PNG that was sent, and what of them found no place."""
    if request.method != "POST":
        return redirect("generation:generate")
    if not (file := request.FILES.get("picture")):
        return _without_settings(request, "Choose a PNG file first.")
    try:
        card = ModelCard.of(settings.FLUXSITE_MODEL)
        found = settings_of(file.read(), user_of(request), card)
    except UnreadablePicture as refused:
        return _without_settings(request, str(refused))
    context = {**_form(request, found.asked, {}), "from_picture": found}
    return render(request, "generation/generate.html", context)


@require_safe
def prompts(request: HttpRequest) -> HttpResponse:
    """The user's last prompts: a page of its own, and what the menu at the prompt shows."""
    context = {"page": "generate", "jobs": last_prompts(user_of(request))}
    return render(request, "generation/prompts.html", context)


@require_safe
def pick(request: HttpRequest) -> HttpResponse:
    """The LoRAs of ``?q=`` for the list to pick from, each with its box of the form."""
    usable = Lora.objects.usable_by(user_of(request), ModelCard.of(settings.FLUXSITE_MODEL).family)
    boxes = lora_boxes(usable.search(request.GET.get("q", "")), {"loras": []}, {})
    return render(request, "generation/_picked.html", {"loras": boxes, "limits": limits})
