"""The pages of the library: find, upload, look at, change."""

from typing import Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe
from rest_framework.exceptions import APIException

from accounts.models import User
from files import storage
from files.bodies import bounded_upload
from loras import library as files
from loras import previews, uploads
from loras.forms import LoraForm
from loras.models import Admission, Lora, LoraQuerySet
from loras.upload_handler import ReceivedFile, receives_lora

PAGE = 48
SORTS = {"uses": ("-uses", "name", "pk"), "new": ("-created_at", "pk"), "name": ("name", "pk")}


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


@require_safe
def library(request: HttpRequest) -> HttpResponse:
    """Cards; ``?q=`` searches, ``show``, ``engine`` and ``tag`` filter; and ``sort`` and ``page``."""
    return _library(request)


def _library(request: HttpRequest, error: str = "", status: int = 200) -> HttpResponse:
    asked = {name: request.GET.get(name, "") for name in ("q", "show", "engine", "tag", "sort")}
    found = _filtered(request, asked)
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    mine = Lora.objects.filter(owner=_user(request))
    context = {
        "page": "loras",
        "asked": asked,
        "loras": page,
        "more": _query(asked, page.next_page_number()) if page.has_next() else "",
        "filtered": any(asked[name] for name in ("q", "show", "engine", "tag")),
        "refused": mine.filter(state=Lora.State.REFUSED).count(),
        "largest": settings.FLUXSITE_LORA_MAX_MB,
        "error": error,
        "engines": ("fp4", "bf16"),
    }
    return render(request, "loras/library.html", context, status=status)


def _query(asked: dict[str, str], page: int) -> str:
    return urlencode({name: value for name, value in asked.items() if value} | {"page": page})


def _filtered(request: HttpRequest, asked: dict[str, str]) -> LoraQuerySet:
    found = Lora.objects.visible_to(_user(request)).search(asked["q"])
    if asked["show"] == "mine":
        found = found.filter(owner=_user(request))
    if asked["show"] == "refused":
        found = found.filter(owner=_user(request), state=Lora.State.REFUSED)
    if asked["engine"]:
        works = Admission.objects.filter(engine=asked["engine"], state=Admission.State.WORKS)
        found = found.filter(pk__in=works.values("lora"))
    if asked["tag"]:
        found = found.search(asked["tag"])
    order = SORTS.get(asked["sort"], SORTS["uses"])
    return found.order_by(*order).select_related("owner").prefetch_related("admissions")


def _upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES.get("file")
    if not isinstance(file, ReceivedFile):
        return _library(request, "Choose a .safetensors file first.", 400)
    facts = file.incoming.inspect()
    said = {"name": uploads.name_of(facts, file.name or ""), "trigger_words": facts.trigger_words}
    return redirect(file.incoming.keep(facts, **said))


def _upload_refused(request: HttpRequest, error: APIException) -> HttpResponse:
    reason = error.facts.reason if isinstance(error, uploads.NotAdmitted) else str(error.detail)
    return _library(request, reason, error.status_code)


# A file from the page's form, where there is no JavaScript; with it the page sends files to the API.
upload = receives_lora(require_POST(_upload), _upload_refused)


def _preview_too_large(request: HttpRequest, slug: str) -> HttpResponse:
    sentence = f"The picture is larger than {previews.MAX_BYTES / 1e6:.0f} MB. Use a smaller one."
    return render(request, "400.html", {"sentence": sentence}, status=413)


@bounded_upload(previews.MAX_BYTES, refused=_preview_too_large)
@require_http_methods(["GET", "HEAD", "POST"])
def detail(request: HttpRequest, slug: str) -> HttpResponse:
    """Every fact of a LoRA; a POST changes it."""
    lora = get_object_or_404(Lora.objects.open_to(_user(request)), slug=slug)
    may_change = lora.may_be_changed_by(_user(request))
    if request.method == "POST" and not may_change:
        raise Http404
    form = LoraForm(_user(request), request.POST or None, request.FILES or None, instance=lora)
    if request.method == "POST" and form.is_valid():
        return redirect(form.save())
    shown = get_object_or_404(Lora.objects.select_related("owner"), pk=lora.pk)
    context: dict[str, Any] = {
        "page": "loras", "lora": shown, "may_change": may_change, "form": form, "edits": bool(form.errors),
        "groups": shown.groups_shown_to(_user(request)),
    }  # fmt: skip
    return render(request, "loras/detail.html", context, status=400 if form.errors else 200)


@require_POST
def delete(request: HttpRequest, slug: str) -> HttpResponse:
    lora = get_object_or_404(Lora.objects.open_to(_user(request)), slug=slug)
    if not lora.may_be_changed_by(_user(request)):
        raise Http404
    files.delete(lora)
    return redirect("loras:library")


@require_GET
def preview(request: HttpRequest, slug: str) -> HttpResponseBase:
    """The picture that a LoRA is shown by; ``?without``: the same drawn without it."""
    lora = get_object_or_404(Lora.objects.open_to(_user(request)), slug=slug)
    name = str(lora.preview_without if "without" in request.GET else lora.preview)
    try:
        # The address names the file, which never changes.
        response = storage.respond(name, "image/webp") if name else None
    except FileNotFoundError:
        response = None
    if response is None:
        raise Http404("This LoRA has no preview.")
    patch_vary_headers(response, ["Cookie"])
    return response
