"""Each request has an id, a place in the figures, and perhaps a line in the log."""

import logging
import re
import time
from collections.abc import Callable
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from structlog.contextvars import bound_contextvars

from operations import metrics

log = logging.getLogger(__name__)

_WELL_FORMED = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_HARMLESS = ("GET", "HEAD", "OPTIONS")
# Of a path in the log. The studio's own are shorter; a client without an account may send 8 kB.
_LONGEST_PATH = 300


def request_ids(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware, the outermost. Whoever comes after it finds the id in ``request.headers["X-Request-ID"]``.

    It is the caller's own where that is made of 1 to 64 letters, digits, dots, hyphens and underscores.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        if not _WELL_FORMED.fullmatch(request.META.get("HTTP_X_REQUEST_ID", "")):
            request.META["HTTP_X_REQUEST_ID"] = uuid4().hex
        begun = time.monotonic()
        with bound_contextvars(request=request):
            response = get_response(request)
            seconds = time.monotonic() - begun
            metrics.count_request(request, response, seconds)
            _tell(request, response, seconds)
        response["X-Request-ID"] = request.META["HTTP_X_REQUEST_ID"]
        return response

    return middleware


def _tell(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    """A line for what changes something. Pages ask for their state each second: that would fill the log."""
    if request.method not in _HARMLESS:
        path = request.path[:_LONGEST_PATH]
        facts = {"method": request.method, "path": path, "status_code": response.status_code}
        log.info("Answered", extra={**facts, "seconds": round(seconds, 3)})
