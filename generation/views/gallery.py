"""The gallery."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from generation.views.shared import images_of

PAGE = 60


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """Pictures, newest first; ``?before=<moment>`` is the next page."""
    images = images_of(request)
    if before := request.GET.get("before"):
        if not before.isdecimal():
            raise Http404
        images = images.before(int(before))
    shown = list(images[: PAGE + 1])
    context = {
        "page": "gallery",
        "images": shown[:PAGE],
        "more": shown[PAGE - 1].moment if len(shown) > PAGE else None,
        "first": "before" not in request.GET,
        "total": images_of(request).count(),
    }
    return render(request, "generation/gallery.html", context)
