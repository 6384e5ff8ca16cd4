"""What people without an account see behind a link: its pictures, and nothing else."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotModified,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from files import storage
from generation import archive, media
from generation.models import Image, ImageQuerySet, ShareLink

PAGE = 60
# Nobody counts farther, nor adds up the bytes of more.
COUNTED = 1000
Seen = Callable[..., HttpResponseBase]


def for_visitors(view: Seen) -> Seen:
    """The view gets the link of a token. Whatever is not there answers with one and the same page."""

    @login_not_required
    @require_safe
    @wraps(view)
    def answer(request: HttpRequest, token: str, **named: Any) -> HttpResponseBase:
        links = ShareLink.objects.of_token(token).select_related("owner", "image__job", "collection")
        try:
            return _private(view(request, get_object_or_404(links), **named))
        except Http404:
            return _gone(request)

    return answer


def _gone(request: HttpRequest) -> HttpResponseBase:
    return _private(render(request, "generation/share_gone.html", status=404))


def _private(response: HttpResponseBase) -> HttpResponseBase:
    """No search engine finds it, no other site learns its address, no cache on the way keeps it."""
    response["X-Robots-Tag"] = "noindex, nofollow"
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "private, no-cache"
    return response


@login_not_required
@require_safe
def damaged(request: HttpRequest, rest: str) -> HttpResponseBase:
    """What is left of a link that lost a part on its way; one that lost only its last slash works."""
    return _gone(request) if "/" in rest else _private(redirect("generation:share", rest))


@for_visitors
def share(request: HttpRequest, link: ShareLink) -> HttpResponseBase:
    """The pictures of a link, newest first; ``?before=<moment>`` is the next page. One alone is large."""
    if link.image:
        return _picture(request, link, _one(link, link.image.pk))
    images = _images(link)
    if before := request.GET.get("before"):
        if not (before.isdecimal() and int(before[:20]) < 2**63):
            raise Http404
        images = images.before(int(before))
    shown, total = list(images[: PAGE + 1]), _images(link).count_to(COUNTED + 1)
    context = {
        "link": link,
        "images": shown[:PAGE],
        "more": shown[PAGE - 1].moment if len(shown) > PAGE else None,
        "total": min(total, COUNTED),
        "has_more": total > COUNTED,
        "bytes": _images(link).bytes() if total <= COUNTED else None,
    }
    return render(request, "generation/share.html", context)


@for_visitors
def share_image(request: HttpRequest, link: ShareLink, pk: UUID) -> HttpResponseBase:
    """One picture of a link."""
    return _picture(request, link, _one(link, pk))


def _picture(request: HttpRequest, link: ShareLink, image: Image) -> HttpResponse:
    context = {
        "link": link,
        "image": image,
        "newer": _images(link).after(image.moment).first(),
        "older": _images(link).before(image.moment).first(),
        "loras": image.job.job_loras.all() if link.with_recipe else (),
    }
    return render(request, "generation/share_image.html", context)


@for_visitors
def share_file(request: HttpRequest, link: ShareLink, pk: UUID) -> HttpResponseBase:
    """The PNG, with ``?download`` to save; without its recipe, unless the owner shows that."""
    image = _one(link, pk)
    etag = f'"{image.sha256}{"" if link.with_recipe else "-plain"}"'
    # A link to the store is sent anew each time: it is over soon.
    may_be_kept = not (link.with_recipe and storage.redirects)
    if request.headers.get("If-None-Match") == etag and may_be_kept:
        return HttpResponseNotModified(headers={"ETag": etag})
    if link.with_recipe:
        return media.png(image, download="" if "download" in request.GET else None)
    response = media.plain(image)
    if "download" not in request.GET:
        del response["Content-Disposition"]
    return response


@for_visitors
def share_archive(request: HttpRequest, link: ShareLink) -> HttpResponseBase:
    """All pictures of a link as a ZIP, streamed; without their recipes, unless the owner shows them."""
    if not link.images.exists():
        raise Http404
    name = slugify(link.collection.name) if link.collection else ""
    pieces = archive.stream(link.images.in_pages(), recipe=link.with_recipe)
    response = StreamingHttpResponse(pieces, content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{name or "pictures"}.zip"'
    return response


@for_visitors
def share_thumbnail(request: HttpRequest, link: ShareLink, pk: UUID) -> HttpResponseBase:
    image = _one(link, pk)
    etag = f'"{image.sha256}-thumbnail"'
    if request.headers.get("If-None-Match") == etag and not storage.redirects:
        return HttpResponseNotModified(headers={"ETag": etag})
    return media.thumbnail(image)


def _images(link: ShareLink) -> ImageQuerySet:
    return link.images.select_related("job")


def _one(link: ShareLink, pk: UUID) -> Image:
    return get_object_or_404(_images(link), pk=pk)
