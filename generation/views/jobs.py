"""A job, the jobs of a page as they are now, and the history."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from generation import engine_states, spreadsheet
from generation.history import SEARCHED, Filters
from generation.history_csv import COLUMNS, rows
from generation.models import Job
from generation.queue import JobQuerySet
from generation.templatetags.jobs import engine_words, remix_url
from generation.views.generate import submit
from generation.views.shared import jobs_of, unless_known, user_of, uuid_or_404
from gpu.engines import ENGINES

HISTORY_PAGE = 50
# Jobs are counted so far: counting a million takes longer than showing a page.
COUNTED = 10_000
COUNTED_STATE = 100
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


@require_POST
def again(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask for a job's pictures again, as a new job: with a new seed, or the same one as before where
    ``seed=same`` or another ``engine`` is posted. What speaks against it is shown in the form.
    """
    job = get_object_or_404(jobs_of(request), pk=pk)
    if job.job_loras.filter(lora=None).exists():
        return redirect(remix_url(job))  # the form names those that left the library
    same_seed = "seed" in request.POST or "engine" in request.POST
    engine = request.POST.get("engine", job.engine)
    return submit(request, job.as_request(engine=engine, seed=job.seed if same_seed else None), parent=job)


@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """Jobs, newest first, filtered as ``Filters`` says; ``?before=<id>`` is the next page."""
    filters = Filters.of(request.GET)
    mine = jobs_of(request)
    found = filters.newest_of(mine)
    rest = found.order_by("-id")
    if before := request.GET.get("before"):
        rest = rest.filter(pk__lt=uuid_or_404(before))
    jobs = list(rest[: HISTORY_PAGE + 1])
    context = {
        "page": "history",
        "jobs_as": "row",
        "jobs": jobs[:HISTORY_PAGE],
        "more": filters.query(before=jobs[HISTORY_PAGE - 1].pk) if len(jobs) > HISTORY_PAGE else "",
        "first": not before,
        "total": found.count_to(COUNTED),
        "counted": COUNTED,
        "filters": filters,
        "shows": _shows(filters, mine),
        "engines": ENGINES,
        "searched": SEARCHED,
    }
    return render(request, "generation/history.html", context)


def _shows(filters: Filters, mine: JobQuerySet) -> list[dict[str, Any]]:
    """All, Waiting, Failed: each with its address, and how many there are of the user's."""
    counts = {
        "": None,
        "waiting": mine.active().count_to(COUNTED_STATE),
        "failed": mine.filter(state=Job.State.FAILED).count_to(COUNTED_STATE),
    }
    return [
        {
            "words": (name or "all").capitalize(),
            "count": f"{COUNTED_STATE - 1}+" if count == COUNTED_STATE else count,
            "query": filters.query(show=name),
            "chosen": name == filters.show,
        }
        for name, count in counts.items()
    ]


@require_safe
def history_csv(request: HttpRequest) -> StreamingHttpResponse:
    """All jobs that match, however many, as ``generation.history_csv`` describes them."""
    mine = Job.objects.visible_to(user_of(request))
    matching = Filters.of(request.GET).all_of(mine)
    return spreadsheet.response(f"fluxsite-jobs-{timezone.localdate()}", COLUMNS, rows(matching))
