"""What can be done with the pictures that were chosen on a page: each an ``image``, its id, 500 at most."""

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods, require_POST

from generation import archive
from generation.collection_form import NameForm
from generation.models import Collection, Image, ImageQuerySet, ShareLink
from generation.views.shared import user_of, uuid_or_404
from generation.words import pictures

MOST = 500
# What the page offers to take a verb back with.
UNDO = {"trash": "restore"}


class Refused(Exception):
    """A sentence for whoever chose."""


@require_POST
def act(request: HttpRequest, verb: str) -> HttpResponse:
    """Do one of ``VERBS`` with the chosen pictures. If one of them is not yours, nothing is done.

    A script asks for JSON and gets ``said``, a sentence, and ``undo``, an address or null; or ``error``.
    """
    try:
        said = VERBS[verb](request, _chosen(request))
    except Refused as error:
        return _refuse(request, str(error))
    if _wants_json(request):
        undo = reverse(f"generation:pictures-{UNDO[verb]}") if verb in UNDO else None
        return JsonResponse({"said": said, "undo": undo})
    messages.success(request, said)
    return _back(request)


def _chosen(request: HttpRequest) -> ImageQuerySet:
    """The chosen pictures, all of them the user's. Raises Refused, and Http404."""
    pks = _ids(request)
    chosen = Image.objects.visible_to(user_of(request)).filter(pk__in=pks)
    if chosen.count() != len(pks):
        raise Http404
    return chosen


def _ids(request: HttpRequest) -> set[UUID]:
    pks = {uuid_or_404(text) for text in request.POST.getlist("image")}
    if not pks:
        raise Refused("Choose a picture first.")
    if len(pks) > MOST:
        raise Refused(f"{len(pks)} pictures are chosen. Choose {MOST} or fewer.")
    return pks


def _wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def _refuse(request: HttpRequest, sentence: str) -> HttpResponse:
    if _wants_json(request):
        return JsonResponse({"error": sentence}, status=400)
    messages.error(request, sentence)
    return _back(request)


def _back(request: HttpRequest) -> HttpResponse:
    """To the page that the form is on."""
    page = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(page, request.get_host(), require_https=request.is_secure())
    return redirect(page if is_ours else "generation:gallery")


# Verbs ------------------------------------------------------------------------------------------------


def _favourite(request: HttpRequest, images: ImageQuerySet) -> str:
    images.mark(favourite=True)
    return f"{pictures(images.count())} in your favourites"


def _unfavourite(request: HttpRequest, images: ImageQuerySet) -> str:
    return f"{pictures(images.mark(favourite=False))} taken out of your favourites"


def _trash(request: HttpRequest, images: ImageQuerySet) -> str:
    return f"{pictures(images.trash())} moved to trash"


def _restore(request: HttpRequest, images: ImageQuerySet) -> str:
    return f"{pictures(images.restore())} restored"


def _collect(request: HttpRequest, images: ImageQuerySet) -> str:
    collection = _collection(request)
    collection.add(images)
    return f"{pictures(images.count())} in {collection}"


def _collection(request: HttpRequest) -> Collection:
    """The one that was named; ``name`` makes it, if there is none yet."""
    user = user_of(request)
    if pk := request.POST.get("collection"):
        return get_object_or_404(Collection.objects.visible_to(user), pk=uuid_or_404(pk))
    form = NameForm(request.POST)
    if not form.is_valid():
        raise Refused(form.errors["name"][0])
    return Collection.objects.named(user, form.cleaned_data["name"])


def _uncollect(request: HttpRequest, images: ImageQuerySet) -> str:
    pk = uuid_or_404(request.POST.get("in_collection", ""))
    collection = get_object_or_404(Collection.objects.visible_to(user_of(request)), pk=pk)
    return f"{pictures(collection.remove(images))} taken out of {collection}"


VERBS: dict[str, Callable[[HttpRequest, ImageQuerySet], str]] = {
    "favourite": _favourite,
    "unfavourite": _unfavourite,
    "trash": _trash,
    "restore": _restore,
    "collect": _collect,
    "uncollect": _uncollect,
}


# For good, and away -----------------------------------------------------------------------------------


@require_POST
def delete(request: HttpRequest) -> HttpResponse:
    """Delete the chosen pictures of the trash for good; asks before it does, unless ``sure`` is sent."""
    try:
        chosen = _chosen(request).trashed()
    except Refused as error:
        return _refuse(request, str(error))
    if "sure" in request.POST:
        messages.success(request, f"{pictures(chosen.purge())} deleted for good")
        return redirect("generation:trash")
    return _confirm(request, chosen, list(chosen.values_list("pk", flat=True)))


@require_http_methods(["GET", "HEAD", "POST"])
def empty_trash(request: HttpRequest) -> HttpResponse:
    """A GET says what would be freed and asks; a POST does it."""
    trashed = Image.objects.visible_to(user_of(request)).trashed()
    if request.method == "POST":
        messages.success(request, f"{pictures(trashed.purge())} deleted for good")
        return redirect("generation:trash")
    return _confirm(request, trashed, [])


def _confirm(request: HttpRequest, images: ImageQuerySet, pks: list[UUID]) -> HttpResponse:
    """The page that names the loss. The pages' script shows its form as a dialog."""
    lost = ShareLink.objects.visible_to(user_of(request)).open().filter(image__in=images)
    context = {
        "page": "gallery",
        "count": images.count(),
        "bytes": images.bytes(),
        "links": lost.count(),
        "pks": pks,
    }
    return render(request, "generation/delete.html", context)


@require_POST
def download(request: HttpRequest) -> HttpResponseBase:
    """The chosen pictures, or all of the collection ``whole``, as a ZIP; ``recipe=no``: without recipes."""
    name = "pictures"
    try:
        if pk := request.POST.get("whole"):
            mine = Collection.objects.visible_to(user_of(request))
            collection = get_object_or_404(mine, pk=uuid_or_404(pk))
            images = Image.objects.visible_to(user_of(request)).kept().in_collection(collection)
            name = slugify(collection.name) or name
        else:
            images = _chosen(request)
    except Refused as error:
        return _refuse(request, str(error))
    response = StreamingHttpResponse(
        archive.stream(images.in_pages(), recipe=request.POST.get("recipe") != "no"),
        content_type="application/zip",
    )
    response["Content-Disposition"] = f'attachment; filename="fluxsite-{name}.zip"'
    response["Cache-Control"] = "private, no-store"
    return response
