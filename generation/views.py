"""The pages: load what is yours, check, call one verb, answer."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotModified,
    JsonResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from accounts.models import User
from generation import engine_states, limits, media, operations, png_metadata, workers_page
from generation.bounded_upload import bounded_upload
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
from generation.models import Image, Job
from generation.png_chunks import UnreadablePicture
from generation.quotas import TooMuch
from generation.templatetags.jobs import engine_words
from gpu.engines import ENGINES
from gpu.model_card import ModelCard
from gpu.models import Mode, Pool, Worker
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
    visible = Job.objects.visible_to(_user(request))
    return visible.select_related("worker").prefetch_related("job_loras", "images")


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
    size = size_choice(asked, card)
    states = engine_states.engine_states()
    usable = Lora.objects.usable_by(_user(request), card.family)
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
        "today": pictures_today(_user(request)),
        "jobs": _jobs(request)[:FEED],
        "recent": _images(request)[:RECENT],
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
        found = settings_of(file.read(), _user(request), card)
    except UnreadablePicture as refused:
        return _without_settings(request, str(refused))
    context = {**_form(request, found.asked, {}), "from_picture": found}
    return render(request, "generation/generate.html", context)


@require_safe
def prompts(request: HttpRequest) -> HttpResponse:
    """The user's last prompts: a page of its own, and what the menu at the prompt shows."""
    context = {"page": "generate", "jobs": last_prompts(_user(request))}
    return render(request, "generation/prompts.html", context)


@require_safe
def pick(request: HttpRequest) -> HttpResponse:
    """The LoRAs of ``?q=`` for the list to pick from, each with its box of the form."""
    usable = Lora.objects.usable_by(_user(request), ModelCard.of(settings.FLUXSITE_MODEL).family)
    boxes = lora_boxes(usable.search(request.GET.get("q", "")), {"loras": []}, {})
    return render(request, "generation/_picked.html", {"loras": boxes, "limits": limits})


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
    states = engine_states.engine_states()
    answer = {
        "jobs": [_status(job, template) for job in jobs],
        "engines": [
            {"name": state.name, "state": state.state, "words": engine_words(state)} for state in states
        ],
    }
    return _unless_known(request, JsonResponse(answer))


def _unless_known(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The response with its ETag; 304 where the browser has it already."""
    etag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponseNotModified()
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
def image_file(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """The PNG; with ``?download`` to save, with ``?download=plain`` without its recipe."""
    return media.png(get_object_or_404(_images(request), pk=pk), download=request.GET.get("download"))


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


@require_safe
def workers(request: HttpRequest) -> HttpResponse:
    """Who draws, who waits, and what operators want of them."""
    context = {"page": "workers", **workers_page.of(_user(request))}
    return render(request, "generation/workers.html", context)


@require_safe
def workers_status(request: HttpRequest) -> HttpResponse:
    """What of the Workers page changes by itself; 304 when nothing did since the ETag sent."""
    html = render_to_string("generation/_workers.html", workers_page.of(_user(request)))
    return _unless_known(request, HttpResponse(html))


@require_POST
def worker_mode(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Pause, drain or resume a slot."""
    return _set_mode(request, lambda: get_object_or_404(Worker, pk=pk))


@require_POST
def engine_mode(request: HttpRequest, engine: str) -> HttpResponse:
    """Pause, drain or resume all slots of an engine."""

    def pool() -> Pool:
        if engine not in ENGINES:
            raise Http404
        return Pool.of(engine)

    return _set_mode(request, pool)


def _set_mode(request: HttpRequest, find: Callable[[], Pool | Worker]) -> HttpResponse:
    if not request.user.has_perm("gpu.change_worker"):
        raise PermissionDenied
    mode = request.POST.get("mode")
    if mode not in Mode.values:
        raise Http404
    operations.set_mode(find(), Mode(mode), by=request.user.get_username())
    return redirect("generation:workers")
