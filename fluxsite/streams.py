"""Limits how many answers are made while they are sent (ZIP, CSV): each keeps a thread while it is read."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import render

from accounts.throttle import address_of
from fluxsite.server import limits

_lock = threading.Lock()
_taken: Counter[str] = Counter()
_DETAIL = "Too many downloads run at the moment. Try again when one of them has finished."


class Counted:
    """``pieces`` of ``client``, counted until it is closed."""

    def __init__(self, pieces: Any, client: str) -> None:
        self._pieces, self._client, self._open = pieces, client, True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pieces)

    def close(self) -> None:
        with _lock:
            if self._open:
                _taken.subtract([self._client])
            if not _taken[self._client]:
                del _taken[self._client]
            self._open = False


def limited(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Middleware: 503 to a stream beyond the number that may run, in all or for its client."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if not isinstance(response, StreamingHttpResponse) or not _keeps_a_thread(response):
            return response
        client = _client_of(request)
        if not _take(client):
            response.close()
            return _refusal(request)
        response.streaming_content = Counted(response.streaming_content, client)
        return response

    return middleware


def _keeps_a_thread(response: StreamingHttpResponse) -> bool:
    """Not a file, which the web server sends without a thread; not events, which hold a place to wait."""
    if response.get("Content-Type", "").startswith("text/event-stream"):
        return False
    file: Any = getattr(response, "file_to_stream", None)
    try:
        file.fileno()
    except (AttributeError, OSError):
        return True
    return False


def _take(client: str) -> bool:
    with _lock:
        free = _taken.total() < limits.STREAMS and _taken[client] < limits.STREAMS_OF_ONE_CLIENT
        if free:
            _taken[client] += 1
    return free


def _client_of(request: HttpRequest) -> str:
    user = getattr(request, "user", None)
    return f"user {user.pk}" if user and user.is_authenticated else f"address {address_of(request)}"


def _refusal(request: HttpRequest) -> HttpResponse:
    headers = {"Retry-After": str(limits.RETRY_AFTER_SECONDS)}
    if request.path_info.startswith("/api/v1/"):
        error = {"code": "busy", "detail": _DETAIL, "attr": None}
        return JsonResponse({"type": "server_error", "errors": [error]}, status=503, headers=headers)
    page = render(request, "503.html", {"sentence": _DETAIL}, status=503)
    for name, value in headers.items():
        page[name] = value
    return page
