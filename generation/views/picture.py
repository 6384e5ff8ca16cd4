"""One picture: its page and its files."""

from uuid import UUID

from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET, require_safe

from generation import media
from generation.views.shared import images_of

STRIP = 5


@require_safe
def image(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A picture with its whole recipe, and the ways to the next ones."""
    image = get_object_or_404(images_of(request), pk=pk)
    newer = list(images_of(request).after(image.moment)[:STRIP])
    older = list(images_of(request).before(image.moment)[:STRIP])
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
    return media.png(get_object_or_404(images_of(request), pk=pk), download=request.GET.get("download"))


@require_GET
def image_thumbnail(request: HttpRequest, pk: UUID) -> FileResponse:
    return media.thumbnail(get_object_or_404(images_of(request), pk=pk))
