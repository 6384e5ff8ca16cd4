"""The pages: load what is yours, check, call one verb, answer."""

import hashlib
from typing import Any, cast
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
from django.views.decorators.http import require_GET, require_POST, require_safe

from accounts.models import User
from generation import limits, media
from generation.forms import asked_in, prefilled
from generation.job_request import JobRequest
from generation.models import Image, Job
from gpu.engines import ENGINES
from gpu.model_card import ModelCard
from gpu.models import Worker
from loras.models import Lora

FEED = 20
GALLERY_PAGE = 60
HISTORY_PAGE = 50


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


def _jobs(request: HttpRequest) -> QuerySet[Job]:
    return Job.objects.visible_to(_user(request)).prefetch_related("job_loras", "images")


def _images(request: HttpRequest) -> QuerySet[Image]:
    return Image.objects.visible_to(_user(request)).select_related("job").newest_first()


def generate(request: HttpRequest) -> HttpResponse:
    """The form and the newest jobs. A POST submits without JavaScript; the script posts to the API."""
    errors: dict[str, Any] = {}
    form = prefilled(request)
    if request.method == "POST":
        asked = JobRequest(data=asked_in(request.POST), context={"owner": request.user})
        if asked.is_valid():
            return redirect(Job.submit(_user(request), **asked.validated_data))
        errors, form = asked.errors, asked_in(request.POST)
    context = {
        "form": form,
        "errors": errors,
        "limits": limits,
        "engines": _engine_states(),
        "loras": Lora.objects.usable_by(_user(request), ModelCard.of(settings.FLUXSITE_MODEL).family),
        "jobs": _jobs(request)[:FEED],
        "recent": _images(request)[:12],
    }
    return render(request, "generation/generate.html", context, status=400 if errors else 200)


def _engine_states() -> list[dict[str, str]]:
    """Each engine with ``name`` and ``state``: "ready", "loads" (no model in memory yet) or "off" (no worker)."""
    alive: dict[str, list[Worker]] = {}
    for worker in Worker.objects.alive():
        alive.setdefault(worker.engine, []).append(worker)
    return [{"name": name, "state": _state(alive.get(name, []))} for name in ENGINES]


def _state(workers: list[Worker]) -> str:
    if not workers:
        return "off"
    return "ready" if any(worker.model for worker in workers) else "loads"


@require_safe
def job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One job, with its progress: where the form leads without JavaScript."""
    return render(request, "generation/job.html", {"job": get_object_or_404(_jobs(request), pk=pk)})


@require_safe
def jobs_status(request: HttpRequest) -> HttpResponse:
    """The jobs of ``?ids=a,b`` as the page shows them; 304 when nothing changed since the ETag sent."""
    try:
        ids = [UUID(text) for text in request.GET.get("ids", "").split(",") if text][:100]
    except ValueError:
        raise Http404 from None
    answer = [
        {
            "id": str(job.pk),
            "state": job.state,
            "stage": job.stage,
            "picture": job.picture,
            "step": job.step,
            "html": render_to_string("generation/_job.html", {"job": job}, request),
        }
        for job in _jobs(request).filter(pk__in=ids)
    ]
    response = JsonResponse({"jobs": answer})
    etag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponseNotModified()  # type: ignore[assignment]
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    return response


@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = get_object_or_404(_jobs(request), pk=pk)
    job.cancel()
    return redirect(job)


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """Pictures, newest first; ``?before=<id>`` is the next page."""
    images = _images(request)
    if before := request.GET.get("before"):
        images = images.filter(pk__lt=_uuid(before))
    page = list(images[: GALLERY_PAGE + 1])
    more = page[GALLERY_PAGE - 1].pk if len(page) > GALLERY_PAGE else None
    context = {"images": page[:GALLERY_PAGE], "more": more, "first": before is None}
    return render(request, "generation/gallery.html", context)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


@require_safe
def image(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A picture with its whole recipe, and the ways to the next ones."""
    image = get_object_or_404(_images(request), pk=pk)
    context = {
        "image": image,
        "newer": _images(request).filter(pk__gt=pk).order_by("id").first(),
        "older": _images(request).filter(pk__lt=pk).first(),
        "siblings": image.job.images.order_by("index"),
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
    jobs = _jobs(request).order_by("-id")
    if before := request.GET.get("before"):
        jobs = jobs.filter(pk__lt=_uuid(before))
    page = list(jobs[: HISTORY_PAGE + 1])
    more = page[HISTORY_PAGE - 1].pk if len(page) > HISTORY_PAGE else None
    return render(request, "generation/history.html", {"jobs": page[:HISTORY_PAGE], "more": more})
