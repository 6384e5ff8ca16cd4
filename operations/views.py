"""Whether the studio can draw, and its figures, for what watches it."""

import hmac
from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from operations import health, metrics

View = Callable[[HttpRequest], HttpResponse]


def may_watch(request: HttpRequest) -> bool:
    """Who sends ``FLUXSITE_METRICS_TOKEN``, or is logged in as staff. Without a token it is staff alone."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    wanted = settings.FLUXSITE_METRICS_TOKEN
    if wanted and scheme.lower() == "bearer":
        return hmac.compare_digest(token.strip().encode(), wanted.encode())
    return request.user.is_active and request.user.is_staff


def watchers_only(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if may_watch(request):
            return view(request)
        return HttpResponse(
            "Send Authorization: Bearer with FLUXSITE_METRICS_TOKEN, or log in as staff.\n",
            status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip

    return guarded


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """503 when requests should go elsewhere. Everybody sees what fails; why, only those who may watch."""
    found = list(health.findings())
    fails = any(finding.matters and not finding.ok for finding in found)
    state = "fails" if fails else "ok" if all(finding.ok for finding in found) else "degraded"
    # Without a database nobody can be asked who is logged in.
    explained = found[0].ok and may_watch(request)
    checks = {finding.name: _shown(finding, explained) for finding in found}
    return JsonResponse({"status": state, "checks": checks}, status=503 if fails else 200)


def _shown(finding: health.Finding, explained: bool) -> dict[str, object]:
    shown: dict[str, object] = {"ok": finding.ok, "matters": finding.matters}
    if explained:
        shown |= {"detail": finding.detail} | ({} if finding.ok else {"remedy": finding.remedy})
    return shown


@login_not_required
@never_cache
@require_safe
@watchers_only
def prometheus(request: HttpRequest) -> HttpResponse:
    """The figures of this moment, in Prometheus' text format."""
    return HttpResponse(metrics.text(), content_type=metrics.CONTENT_TYPE)
