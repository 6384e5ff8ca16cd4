"""Usage and tokens: the page of an account that needs people and pictures both."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.forms import TokenForm
from accounts.models import ApiToken, UsageEntry
from generation import quotas, spreadsheet
from generation import usage as used
from generation.views.shared import user_of


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def usage(request: HttpRequest) -> HttpResponse:
    """What is used of each limit, the last days, and API tokens; POST makes one and shows it, this once."""
    user = user_of(request)
    form = TokenForm(request.POST or None, owner=user)
    token = ""
    if form.is_valid():
        token, form = form.issue(), TokenForm(owner=user)
    return render(request, "generation/usage.html", {**_of(request), "form": form, "new_token": token})


def _of(request: HttpRequest) -> dict[str, Any]:
    user = user_of(request)
    days = used.chart(user)
    return {
        "page": "account",
        "section": "usage",
        "meters": used.meters(user),
        "resets_at": quotas.today()[1],
        "resets_in": (quotas.today()[1] - timezone.now()).total_seconds(),
        "trash": used.trash_bytes(user) / 1e6,
        "days": days,
        "engines": [bar.engine for bar in days[0].bars],
        "total": sum(day.images for day in days),
        "tokens": ApiToken.objects.filter(user=user).order_by("-created"),
        "now": timezone.now(),
    }


@require_safe
def ledger_csv(request: HttpRequest) -> HttpResponseBase:
    """Each attempt at a job of one's own."""
    mine = UsageEntry.objects.filter(user=user_of(request))
    return spreadsheet.response("fluxsite-usage", used.ENTRIES, used.rows_of(mine))
