"""One picture: its page, its files, and what is done with it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.views.decorators.http import require_GET, require_POST, require_safe

from generation import limits, media
from generation.gallery_filters import FilterForm, Filters
from generation.models import Collection, Image, ImageQuerySet, ShareLink
from generation.models.image import FINAL_ENGINE
from generation.views.shared import Refused, all_images_of, images_of, submitted, user_of, uuid_or_404
from loras.models import Lora

STRIP = 5
# Farther down the list nobody counts.
COUNTED = 1000
_TRASHED = """Picture moved to trash
<button class="button ghost small" type="submit" form="act" formaction="{}">Undo</button>"""


@require_safe
def image(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A picture with its whole recipe, and the ways to the next ones of the list it was opened from."""
    return _page(request, get_object_or_404(all_images_of(request), pk=pk))


def _page(request: HttpRequest, image: Image, refused: Refused | None = None) -> HttpResponse:
    """The picture's page, with the reason why a job was not queued."""
    loras = _loras(request, image)
    context = {
        "page": "gallery",
        "image": image,
        "loras": loras,
        "triggers": [word for one in loras if one.lora for word in one.lora.trigger_words if word],
        "refused": refused,
        **({} if image.trashed_at else _around(request, image) | _ways_on(request, image)),
    }
    response = render(request, "generation/image.html", context, status=refused.status if refused else 200)
    if refused and refused.wait:
        response["Retry-After"] = refused.wait
    return response


def _around(request: HttpRequest, image: Image) -> dict[str, Any]:
    """The pictures beside it in the list, and its place."""
    filters = filters_of(request)
    images = list_of(request, filters)
    newer, older = list(images.after(image.moment)[:STRIP]), list(images.before(image.moment)[:STRIP])
    return {
        "newer": newer[0] if newer else None,
        "older": older[0] if older else None,
        "strip": [*reversed(newer), image, *older],
        "place": _place(images, image),
        "query": filters.query,
    }


def _ways_on(request: HttpRequest, image: Image) -> dict[str, Any]:
    """What can be done with it."""
    family = image.family()
    return {
        "counts": range(1, limits.MAX_COUNT + 1),
        "family": family,
        "twin": _twin(image, family),
        "final": image.job.engine != FINAL_ENGINE and image.find_job_in(FINAL_ENGINE),
        "final_engine": FINAL_ENGINE,
        "collections": _collections(request, image),
        "links": ShareLink.objects.visible_to(user_of(request)).filter(image=image).newest(),
        "share": ShareLink,
    }


def _twin(image: Image, family: list[Image]) -> Image | None:
    """What it is compared with where its whole family was drawn by one engine."""
    if any(one.job.engine != image.job.engine for one in family):
        return None
    return next((one for one in family if one != image), None)


@dataclass(frozen=True)
class ChosenLora:
    """A LoRA of a recipe. ``lora``: the library's, while the user may look at it."""

    name: str
    weight: float
    lora: Lora | None


def _loras(request: HttpRequest, image: Image) -> list[ChosenLora]:
    chosen = list(image.job.job_loras.all()) if image.job.lora_set else []
    seen = Lora.objects.open_to(user_of(request)).in_bulk([one.lora_id for one in chosen if one.lora_id])
    return [ChosenLora(one.name, one.weight, seen.get(one.lora_id)) for one in chosen]


def filters_of(request: HttpRequest) -> Filters:
    """The gallery's filters that the address carries; none where they make no sense."""
    form = FilterForm(user_of(request), request.GET)
    return Filters.of(form) if form.is_valid() else Filters()


def list_of(request: HttpRequest, filters: Filters) -> ImageQuerySet:
    """The pictures among which one was opened, newest first."""
    return filters.images(user_of(request)).select_related("job")


@dataclass(frozen=True)
class Place:
    """Where a picture is in its list, from 1. ``total``: None where there are more than anybody counts."""

    number: int
    total: int | None


def _place(images: ImageQuerySet, image: Image) -> Place | None:
    newer, total = images.after(image.moment).count_to(COUNTED), images.count_to(COUNTED + 1)
    return Place(newer + 1, total if total <= COUNTED else None) if newer < COUNTED else None


def _collections(request: HttpRequest, image: Image) -> "list[tuple[Collection, bool]]":
    """The owner's collections, each with whether the picture is in it."""
    there = set(image.placements.values_list("collection", flat=True))
    return [(one, one.pk in there) for one in Collection.objects.visible_to(user_of(request))]


# Files ------------------------------------------------------------------------------------------------


@require_GET
def image_file(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """The PNG; with ``?download`` to save: ``=plain`` without its recipe, ``=whole`` never by a redirect."""
    return media.png(get_object_or_404(all_images_of(request), pk=pk), download=request.GET.get("download"))


@require_GET
def image_thumbnail(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    return media.thumbnail(get_object_or_404(all_images_of(request), pk=pk))


# Drawing on -------------------------------------------------------------------------------------------


@require_POST
def variations(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The same recipe with ``count`` new seeds, as one job."""
    image = get_object_or_404(images_of(request), pk=pk)
    job = submitted(lambda: image.variations(request.POST.get("count", "1")))
    return _page(request, image, job) if isinstance(job, Refused) else redirect(job)


@require_POST
def finish(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The same picture in full precision: drawn once, however often it is asked for."""
    image = get_object_or_404(images_of(request), pk=pk)
    asked = submitted(lambda: image.finish_in(FINAL_ENGINE))
    if isinstance(asked, Refused):
        return _page(request, image, asked)
    job, is_new = asked
    if not is_new:
        now = "there" if job.is_over else "being drawn"
        messages.info(request, f"It is {now} in {FINAL_ENGINE.upper()} already. Nothing more was sent")
    return redirect("generation:compare", image.pk)


# Throwing away ----------------------------------------------------------------------------------------


@require_POST
def trash(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Move it to the trash; then the next of the list is shown, or the picture of ``?show=``."""
    image = get_object_or_404(images_of(request), pk=pk)
    show = request.GET.get("show")
    shown = get_object_or_404(images_of(request), pk=uuid_or_404(show)) if show else None
    Image.objects.filter(pk=image.pk).trash()
    messages.success(request, format_html(_TRASHED, _address(request, "generation:image-restore", image)))
    after = shown or _shown_next(request, image)
    return _back_to(request, after) if after else redirect("generation:gallery")


def _shown_next(request: HttpRequest, image: Image) -> Image | None:
    images = list_of(request, filters_of(request))
    return images.before(image.moment).first() or images.after(image.moment).first()


@require_POST
def restore(request: HttpRequest, pk: UUID) -> HttpResponse:
    image = get_object_or_404(all_images_of(request), pk=pk)
    Image.objects.filter(pk=image.pk).restore()
    return _back_to(request, image)


def _back_to(request: HttpRequest, image: Image) -> HttpResponse:
    return redirect(_address(request, "generation:image", image))


def _address(request: HttpRequest, name: str, image: Image) -> str:
    return reverse(name, args=[image.pk]) + filters_of(request).query
