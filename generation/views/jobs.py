"""A job, the jobs of a page as they are now, and the history."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_POST, require_safe

from generation import engine_states
from generation.models import Job
from generation.templatetags.jobs import engine_words
from generation.views.shared import jobs_of, unless_known, uuid_or_404

HISTORY_PAGE = 50
STATUS_MOST = 100
# How ``jobs_status`` draws a job: as in the feed, as a row of the history, or not at all.
JOB_TEMPLATES = {"feed": "generation/_job.html", "row": "generation/_row.html"}


@require_safe
def job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One job, with its progress: where the form leads without JavaScript."""
    context = {"page": "job", "jobs_as": "feed", "job": get_object_or_404(jobs_of(request), pk=pk)}
    return render(request, "generation/job.html", context)


@require_safe
def jobs_status(request: HttpRequest) -> HttpResponse:
    """The jobs of ``?ids=a,b`` as the page shows them; 304 when nothing changed since the ETag sent."""
    ids = [uuid_or_404(text) for text in request.GET.get("ids", "").split(",") if text][:STATUS_MOST]
    template = JOB_TEMPLATES.get(request.GET.get("as", ""))
    jobs = jobs_of(request).filter(pk__in=ids)
    states = engine_states.engine_states()
    answer = {
        "jobs": [_status(job, template) for job in jobs],
        "engines": [
            {"name": state.name, "state": state.state, "words": engine_words(state)} for state in states
        ],
    }
    return unless_known(request, JsonResponse(answer))


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
    job = get_object_or_404(jobs_of(request), pk=pk)
    job.cancel()
    return redirect(job)


@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """Jobs, newest first; ``?before=<id>`` is the next page."""
    newest_first = jobs_of(request).order_by("-id")
    if before := request.GET.get("before"):
        newest_first = newest_first.filter(pk__lt=uuid_or_404(before))
    jobs = list(newest_first[: HISTORY_PAGE + 1])
    context = {
        "page": "history",
        "jobs_as": "row",
        "jobs": jobs[:HISTORY_PAGE],
        "more": jobs[HISTORY_PAGE - 1].pk if len(jobs) > HISTORY_PAGE else None,
        "first": "before" not in request.GET,
        "total": jobs_of(request).count(),
    }
    return render(request, "generation/history.html", context)
