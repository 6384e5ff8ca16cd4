"""The pages: load what is yours, check, call one verb, answer."""

import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar, cast
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
    JsonResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from accounts.models import User
from generation import limits, media
from generation.forms import asked_in, field_errors, lora_boxes, missing_loras, prefilled, size_choice
from generation.job_request import JobRequest
from generation.models import Image, Job
from generation.quotas import TooMuch
from gpu.engines import ENGINES
from gpu.model_card import ModelCard
from gpu.models import Worker
from loras.models import Lora

Row = TypeVar("Row", Job, Image)
FEED = 20
RECENT = 12
STRIP = 5
GALLERY_PAGE = 60
HISTORY_PAGE = 50
STATUS_MOST = 100
# How ``jobs_status`` draws a job: as in the feed, as a row of the history, or not at all.
JOB_TEMPLATES = {"feed": "generation/_job.html", "row": "generation/_row.html"}


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


def _jobs(request: HttpRequest) -> QuerySet[Job]:
    return Job.objects.visible_to(_user(request)).prefetch_related("job_loras", "images")


def _images(request: HttpRequest) -> QuerySet[Image]:
    return Image.objects.visible_to(_user(request)).select_related("job").newest_first()


@require_http_methods(["GET", "HEAD", "POST"])
def generate(request: HttpRequest) -> HttpResponse:
    """The form and the newest jobs. A POST submits without JavaScript; the script posts to the API."""
    if request.method != "POST":
        return render(request, "generation/generate.html", _form(request, prefilled(request), {}))
    asked = asked_in(request.POST)
    checked = JobRequest(data=asked, context={"owner": request.user})
    if not checked.is_valid():
        errors = field_errors(checked.errors, asked)
        return render(request, "generation/generate.html", _form(request, asked, errors), status=400)
    try:
        return redirect(Job.submit(_user(request), **checked.validated_data))
    except TooMuch as error:
        form = _form(request, asked, {"form": str(error.detail)})
        response = render(request, "generation/generate.html", form, status=error.status_code)
        if error.wait:
            response["Retry-After"] = error.wait
        return response


def _form(request: HttpRequest, asked: Mapping[str, Any], errors: Mapping[str, str]) -> dict[str, Any]:
    """Everything the Generate page shows."""
    card = ModelCard.of(settings.FLUXSITE_MODEL)
    engines = _engine_states()
    boxes = lora_boxes(Lora.objects.usable_by(_user(request), card.family), asked, errors)
    return {
        "page": "generate",
        "jobs_as": "feed",
        "form": asked,
        "errors": errors,
        "limits": limits,
        "size": size_choice(asked, card),
        "engines": engines,
        "engine": asked.get("engine") or _best(engines),
        "loras": boxes,
        "missing_loras": missing_loras(asked, boxes),
        "jobs": _jobs(request)[:FEED],
        "recent": _images(request)[:RECENT],
    }


def _engine_states() -> list[dict[str, str]]:
    """Each engine with ``name`` and ``state``: "ready", "loads" (no model in memory) or "off" (no worker)."""
    alive: dict[str, list[Worker]] = {}
    for worker in Worker.objects.alive():
        alive.setdefault(worker.engine, []).append(worker)
    return [{"name": name, "state": _state(alive.get(name, []))} for name in ENGINES]


def _state(workers: list[Worker]) -> str:
    if not workers:
        return "off"
    return "ready" if any(worker.model for worker in workers) else "loads"


def _best(engines: list[dict[str, str]]) -> str:
    """The engine that would draw soonest."""
    return min(engines, key=lambda engine: ["ready", "loads", "off"].index(engine["state"]))["name"]


@require_safe
def job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One job, with its progress: where the form leads without JavaScript."""
    context = {"page": "job", "jobs_as": "feed", "job": get_object_or_404(_jobs(request), pk=pk)}
    return render(request, "generation/job.html", context)


@require_safe
def jobs_status(request: HttpRequest) -> HttpResponse:
    """The jobs of ``?ids=a,b`` as the page shows them; 304 when nothing changed since the ETag sent."""
    ids = [_uuid(text) for text in request.GET.get("ids", "").split(",") if text][:STATUS_MOST]
    template = JOB_TEMPLATES.get(request.GET.get("as", ""))
    jobs = _jobs(request).filter(pk__in=ids)
    response = JsonResponse({"jobs": [_status(job, template) for job in jobs]})
    etag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponseNotModified()  # type: ignore[assignment]
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    return response


def _status(job: Job, template: str | None) -> dict[str, Any]:
    """A job for the page's script. The HTML holds nothing that differs between two requests."""
    return {
        "id": str(job.pk),
        "engine": job.engine,
        "state": job.state,
        "stage": job.stage,
        "picture": job.picture,
        "step": job.step,
        "steps": job.steps,
        "html": render_to_string(template, {"job": job}) if template else "",
    }


@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = get_object_or_404(_jobs(request), pk=pk)
    job.cancel()
    return redirect(job)


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """Pictures, newest first; ``?before=<id>`` is the next page."""
    images, more = _page(request, _images(request), GALLERY_PAGE)
    context = {
        "page": "gallery",
        "images": images,
        "more": more,
        "first": "before" not in request.GET,
        "total": _images(request).count(),
    }
    return render(request, "generation/gallery.html", context)


def _page(request: HttpRequest, newest_first: QuerySet[Row], size: int) -> tuple[list[Row], UUID | None]:
    """The rows after ``?before=<id>``, and the id that the next page begins after; None on the last one."""
    if before := request.GET.get("before"):
        newest_first = newest_first.filter(pk__lt=_uuid(before))
    rows = list(newest_first[: size + 1])
    return rows[:size], rows[size - 1].pk if len(rows) > size else None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


@require_safe
def image(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A picture with its whole recipe, and the ways to the next ones."""
    image = get_object_or_404(_images(request), pk=pk)
    newer = list(_images(request).filter(pk__gt=pk).order_by("id")[:STRIP])
    older = list(_images(request).filter(pk__lt=pk)[:STRIP])
    context = {
        "page": "gallery",
        "image": image,
        "newer": newer[0] if newer else None,
        "older": older[0] if older else None,
        "strip": [*reversed(newer), image, *older],
        "loras": image.job.job_loras.all(),
    }
    return render(request, "generation/image.html", context)


@require_GET
def image_file(request: HttpRequest, pk: UUID) -> FileResponse:
    return media.png(get_object_or_404(_images(request), pk=pk), download="download" in request.GET)


@require_GET
def image_thumbnail(request: HttpRequest, pk: UUID) -> FileResponse:
    return media.thumbnail(get_object_or_404(_images(request), pk=pk))


@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """Jobs, newest first; ``?before=<id>`` is the next page."""
    jobs, more = _page(request, _jobs(request).order_by("-id"), HISTORY_PAGE)
    context = {
        "page": "history",
        "jobs_as": "row",
        "jobs": jobs,
        "more": more,
        "first": "before" not in request.GET,
        "total": _jobs(request).count(),
    }
    return render(request, "generation/history.html", context)
