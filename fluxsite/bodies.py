"""The outermost look at the body of a request: how long it is, and whether it may hold a file.

The check of CSRF reads a form before anybody knows whose it is. So what is too long is refused here, before
a byte of it is read, and on routes that take no file none is written anywhere.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import SuspiciousMultipartForm
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import Resolver404, resolve

from files.bodies import file_limit
from generation.openai_api.errors import shape

Handler = Callable[[HttpRequest], HttpResponse]


class NoFiles(FileUploadHandler):
    """Stands in for Django's handlers, which write a file to memory or to the temporary directory."""

    def new_file(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.request.sent_a_file = True  # type: ignore[union-attr]
        raise SuspiciousMultipartForm("This address takes no file.")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None: ...

    def file_complete(self, file_size: int) -> None: ...


def bound(get_response: Handler) -> Handler:
    """Middleware: 411 to a body of unknown length, 413 to a long one, 400 to a file out of place."""

    def middleware(request: HttpRequest) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if request.META.get("HTTP_TRANSFER_ENCODING") or not str(length).isdecimal():
            # Django takes a body without a length for an empty one.
            return refusal(request, 411, "length_required", "Send the length of the body: Content-Length.")
        if _file_limit(request) is not None:
            return get_response(request)
        if int(length) > (most := settings.DATA_UPLOAD_MAX_MEMORY_SIZE):
            sentence = f"The body is larger than {most:,} bytes, the most that this address takes."
            return refusal(request, 413, "too_large", sentence)
        request.upload_handlers = [NoFiles(request)]
        response = get_response(request)
        if getattr(request, "sent_a_file", False):
            return refusal(request, 400, "file_not_taken", "This address takes no file.")
        return response

    return middleware


def _file_limit(request: HttpRequest) -> int | None:
    try:
        return file_limit(resolve(request.path_info).func, str(request.method))
    except Resolver404:
        return None


def refusal(request: HttpRequest, status: int, code: str, sentence: str) -> HttpResponse:
    """An answer in the shape of the interface that was asked: JSON of either API, or a page."""
    error = {"code": code, "detail": sentence, "attr": None}
    if request.path_info.startswith("/api/v1/"):
        return JsonResponse({"type": "client_error", "errors": [error]}, status=status)
    if request.path_info.startswith("/v1/"):
        return JsonResponse({"error": shape(status, [error])}, status=status)
    return render(request, "400.html", {"sentence": sentence}, status=status)
