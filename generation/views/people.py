"""For administrators: who is here, whom to invite, what was used, and who leaves.

Each page asks for the permission that the admin would ask for the same, such as ``accounts.delete_user`` to
offboard; superusers have all of them.
"""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.administrators import administers, for_administrators
from accounts.forms import InvitationForm
from accounts.models import Invitation, LastAdministrator, Offboarding, Quota, User, canonical
from generation import offboarding, spreadsheet
from generation import usage as used
from generation.people_forms import LedgerForm, OffboardForm
from generation.views.shared import user_of

PAGE = 50


@for_administrators("view_user")
@require_http_methods(["GET", "HEAD", "POST"])
def people(request: HttpRequest) -> HttpResponse:
    """Users with what they used, ``?q=`` finds some; open invitations, to which POST adds; quotas."""
    if request.method == "POST" and not administers(user_of(request), "add_invitation"):
        raise PermissionDenied
    form = InvitationForm(request.POST or None, by=user_of(request))
    link = ""
    if form.is_valid():
        made, form = form.create(), InvitationForm(by=user_of(request))
        link = _link(request, made)
    words = request.GET.get("q", "").strip()
    context = {
        "page": "account",
        "section": "people",
        "form": form,
        "new_link": link,
        "words": words,
        "people": _people(request, words),
        "invitations": _invitations(request),
        "quotas": Quota.objects.select_related("user", "group").order_by("group__name", "user__username"),
    }
    return render(request, "generation/people.html", context)


def _people(request: HttpRequest, words: str) -> Any:
    """A page of users whose rows are ``used.Person``."""
    users = User.objects.order_by("-is_active", "username").select_related("offboarding__to", "quota")
    for word in words.split():
        found = Q(username_key__contains=canonical(word)) | Q(email_key__contains=canonical(word))
        for name in ("first_name", "last_name", "groups__name"):
            found |= Q(**{f"{name}__icontains": word})
        users = users.filter(pk__in=User.objects.filter(found).values("pk"))
    page: Any = Paginator(users.prefetch_related("groups"), PAGE).get_page(request.GET.get("page"))
    page.object_list = used.people(page.object_list)
    return page


def _invitations(request: HttpRequest) -> list[tuple[Invitation, str]]:
    """The open ones with their links; who is no superuser gets no link of another's, which may give more."""
    user = user_of(request)
    return [
        (one, _link(request, one) if user.is_superuser or one.invited_by == user else "")
        for one in Invitation.objects.open().select_related("invited_by").prefetch_related("groups")
    ]


def _link(request: HttpRequest, invitation: Invitation) -> str:
    return request.build_absolute_uri(reverse("accounts:invite", args=[invitation.token]))


# The ledger -------------------------------------------------------------------------------------------


@for_administrators("view_usageentry")
@require_safe
def ledger(request: HttpRequest) -> HttpResponse:
    """What each user used from day ``?first=`` to ``&last=``, of a ``&group=`` or of all."""
    form = LedgerForm(request.GET)
    rows = used.sums(form.entries())
    context = {
        "page": "account",
        "section": "people",
        "form": form,
        "rows": rows,
        "outcomes": used.OUTCOMES,
        "total": {name: sum(row[name] for row in rows) for name in used.SUMS[1:]},
        "query": request.GET.urlencode(),
    }
    return render(request, "generation/ledger.html", context)


@for_administrators("view_usageentry")
@require_safe
def ledger_csv(request: HttpRequest) -> HttpResponseBase:
    """The same as a table; with ``&each`` a row for each attempt."""
    entries = LedgerForm(request.GET).entries()
    if "each" in request.GET:
        return spreadsheet.response("fluxsite-ledger", used.ENTRIES, used.rows_of(entries))
    rows = ([row[name] for name in used.SUMS] for row in used.sums(entries))
    return spreadsheet.response("fluxsite-usage-by-user", used.SUMS, rows)


# Leaving ----------------------------------------------------------------------------------------------


@for_administrators("delete_user")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def offboard(request: HttpRequest, pk: int) -> HttpResponse:
    """What somebody has, and what is to become of it; a small account is done at once."""
    user = get_object_or_404(User, pk=pk)
    form = OffboardForm(request.POST or None, leaving=user)
    if form.is_valid():
        try:
            row = offboarding.begin(user, form.cleaned_data["to"], by=user_of(request))
        except (offboarding.Refused, LastAdministrator) as error:
            form.add_error(None, str(error))
        else:
            offboarding.tried(row, offboarding.SECONDS_OF_A_PAGE)
            messages.success(request, f"The account of {form.name} is closed.")
            return redirect("generation:offboard", pk)
    context = {
        "page": "account",
        "section": "people",
        "leaving": user,
        "has": offboarding.belongings(user),
        "row": Offboarding.objects.select_related("to").filter(user=user).first(),
        "form": form,
    }
    return render(request, "generation/offboard.html", context)
