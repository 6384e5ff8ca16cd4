"""The Workers page, and what operators do there."""

from collections.abc import Callable
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_POST, require_safe

from generation import operations, workers_page
from generation.views.shared import unless_known, user_of
from gpu.engines import ENGINES
from gpu.models import Mode, Pool, Worker


@require_safe
def workers(request: HttpRequest) -> HttpResponse:
    """Who draws, who waits, and what operators want of them."""
    context = {"page": "workers", **workers_page.of(user_of(request))}
    return render(request, "generation/workers.html", context)


@require_safe
def workers_status(request: HttpRequest) -> HttpResponse:
    """What of the Workers page changes by itself; 304 when nothing did since the ETag sent."""
    html = render_to_string("generation/_workers.html", workers_page.of(user_of(request)))
    return unless_known(request, HttpResponse(html))


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
