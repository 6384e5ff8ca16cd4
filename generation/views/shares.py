"""Links for people without an account: made, listed and closed by their owner."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils.dateformat import format as date_in_words
from django.utils.timezone import localtime
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from generation.models import Collection, Image, ShareLink
from generation.models.share import ShareLinkQuerySet
from generation.views.shared import images_of, user_of, uuid_or_404

# Pictures in one link; more are a collection.
MOST = 500
_DAYS = f"Use {', '.join(map(str, ShareLink.DAYS[:-1]))} or {ShareLink.DAYS[-1]} days."


def links_of(request: HttpRequest) -> ShareLinkQuerySet:
    """The user's links, newest first, with what ``generation/_share_links.html`` shows of each."""
    return ShareLink.objects.visible_to(user_of(request)).newest()


@require_safe
def shares(request: HttpRequest) -> HttpResponse:
    """All links of the user."""
    return render(
        request,
        "generation/shares.html",
        {"page": "account", "section": "shares", "links": links_of(request)[:MOST]},
    )


@require_http_methods(["GET", "HEAD", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """Make a link to each ``image`` or to a ``collection``. A GET, or a POST with ``ask``, asks for how long.

    Any other POST answers in JSON with the link and the list of links, where that is wanted.
    """
    asked = request.POST if request.method == "POST" else request.GET
    images, collection = _subject(request, asked.getlist("image"), asked.get("collection"))
    if not images and not collection:
        messages.error(request, "Choose a picture first.")
        return redirect("generation:gallery")
    if request.method != "POST" or "ask" in asked:
        return _asking(request, images, collection)
    days = asked.get("days", str(ShareLink.USUAL_DAYS))
    if days not in map(str, ShareLink.DAYS) or len(images) > MOST:
        error = _DAYS if len(images) <= MOST else f"{len(images)} pictures. Share at most {MOST} at once."
        return _asking(request, images, collection, error)
    with_recipe = bool(asked.get("with_recipe"))
    link = ShareLink.to(user_of(request), images, collection, days=int(days), with_recipe=with_recipe)
    return _created(request, link)


def _subject(
    request: HttpRequest, images: list[str], collection: str | None
) -> tuple[list[Image], Collection | None]:
    """What is to be shared, all of it the user's own: pictures or a collection."""
    if collection:
        mine = Collection.objects.visible_to(user_of(request))
        return [], get_object_or_404(mine, pk=uuid_or_404(collection))
    wanted = {uuid_or_404(pk) for pk in images}
    found = list(images_of(request).filter(pk__in=wanted))
    if len(found) != len(wanted):
        raise Http404
    return found, None


def _asking(
    request: HttpRequest, images: list[Image], collection: Collection | None, error: str = ""
) -> HttpResponse:
    context = {"page": "gallery", "images": images, "collection": collection, "share": ShareLink}
    if error and _wants_json(request):
        return JsonResponse({"error": error}, status=400)
    return render(
        request, "generation/share_new.html", {**context, "error": error}, status=400 if error else 200
    )


def _created(request: HttpRequest, link: ShareLink) -> HttpResponse:
    links = links_of(request).filter(image=link.image, collection=link.collection)
    address = request.build_absolute_uri(link.get_absolute_url())
    until = f"Open until {date_in_words(localtime(link.expires_at), 'j M Y, H:i')}"
    if not _wants_json(request):
        context = {"page": "gallery", "link": link, "address": address, "links": links}
        return render(request, "generation/share_made.html", context, status=201)
    answer: dict[str, Any] = {"url": address, "until": until}
    answer["html"] = render_to_string("generation/_share_links.html", {"links": links}, request)
    return JsonResponse(answer, status=201)


def _wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


@require_POST
def revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Close a link for good."""
    link = get_object_or_404(links_of(request), pk=pk)
    ShareLink.objects.filter(pk=link.pk).revoke()
    if _wants_json(request):
        links = links_of(request).filter(image=link.image, collection=link.collection)
        html = render_to_string("generation/_share_links.html", {"links": links}, request)
        return JsonResponse({"html": html})
    return redirect("generation:shares")
