"""Who tries passwords is slowed down: django-axes counts, here is what it counts by, and what it answers."""

import logging
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from accounts.forms import LoginForm
from accounts.models import User, canonical

log = logging.getLogger(__name__)

# Failed logins of one address within AXES_COOLOFF_TIME, at all accounts together. A studio of 500 people may
# come from one address; who guesses from one gets 28,800 tries a day.
FAILURES_OF_AN_ADDRESS = 100


def account_of(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str:
    """The account that is tried, one for its name and its address in any case."""
    typed = str((credentials or request.POST).get("username") or "")
    user = User.objects.typed(typed).first() if typed else None
    return user.username if user else canonical(typed)[:255]


def address_of(request: HttpRequest) -> str | None:
    """Where the request comes from. Behind the proxy that ends TLS: what the proxy itself saw, which it
    appends last; all before that is what the client claims. Who has an address of IPv6 has 2^64 of them: all
    count as the first.
    """
    behind_proxy = settings.SECURE_PROXY_SSL_HEADER is not None
    forwarded = request.headers.get("X-Forwarded-For", "") if behind_proxy else ""
    said = forwarded.rpartition(",")[2].strip() or request.META.get("REMOTE_ADDR") or None
    try:
        address = ip_address(said or "")
    except ValueError:
        return said
    if isinstance(address, IPv4Address):
        return said
    mapped = address.ipv4_mapped
    return str(mapped or IPv6Network((address.packed, 64), strict=False).network_address)


class Handler(AxesDatabaseHandler):  # type: ignore[misc]
    """Counts failed logins by account and address; and those of an address at any accounts."""

    def is_locked(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        return super().is_locked(request, credentials) or _has_tried_many(address_of(request))


def _has_tried_many(address: str | None) -> bool:
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    tries = AccessAttempt.objects.filter(ip_address=address, attempt_time__gt=since)
    failures = tries.aggregate(sum=Sum("failures_since_start"))["sum"] or 0
    return bool(failures >= FAILURES_OF_AN_ADDRESS)


def locked(request: HttpRequest, *_: Any) -> HttpResponse:
    """The login page again, which says when to try again."""
    log.warning("Logins of %s from %s are refused for now", account_of(request), address_of(request))
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    form = LoginForm(request, initial={"username": request.POST.get("username", "")})
    sentence = f"Too many tries. Wait {minutes} minutes, then try again, or ask a studio admin."
    context = {"form": form, "locked": sentence, "next": request.POST.get("next", "")}
    response = render(request, "accounts/login.html", context, status=429)
    response["Retry-After"] = str(60 * minutes)
    return response
