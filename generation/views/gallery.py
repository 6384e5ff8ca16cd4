"""The gallery and the trash: the same list, of other pictures."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from generation import gallery_page
from generation.gallery_filters import FilterForm, Filters
from generation.moments import LAST_MOMENT
from generation.views import selection
from generation.views.shared import user_of


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """Pictures, newest first, as the query string filters them; ``?before=<moment>`` is the next page."""
    return _list(request, trash=False)


@require_safe
def trash(request: HttpRequest) -> HttpResponse:
    """What was moved to the trash, to restore it or to delete it for good."""
    return _list(request, trash=True)


def _list(request: HttpRequest, *, trash: bool) -> HttpResponse:
    form = FilterForm(user_of(request), request.GET)
    context = {"page": "gallery", "trash": trash, "most": selection.MOST}
    if not form.is_valid():
        shown = {"form": form, "unfiltered": Filters(trash=trash).url()}
        return render(request, "generation/gallery_refused.html", context | shown, status=400)
    filters = Filters.of(form, trash=trash)
    context |= gallery_page.of(user_of(request), filters, _before(request))
    return render(request, "generation/gallery.html", context)


def _before(request: HttpRequest) -> int | None:
    """The moment where the page begins. No person writes one: what is none has no page."""
    text = request.GET.get("before")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LAST_MOMENT):
        raise Http404
    return int(text)
