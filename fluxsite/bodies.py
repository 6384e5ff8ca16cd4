"""The outermost look at the body of a request: how long it is, and whether it may hold a file.

The check of CSRF reads a form before anybody knows whose it is. So what is too long is refused here, before
a byte of it is read, and on routes that take no file none is written anywhere.
"""

import re
from collections.abc import Callable
from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import SuspiciousMultipartForm
from django.core.files.uploadhandler import FileUploadHandler
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import Resolver404, resolve

from files.bodies import file_limit, ignores_body
from generation.openai_api.errors import shape

Handler = Callable[[HttpRequest], HttpResponse]
# Python's int() raises an error for more than 4,300 digits.
_LENGTH = re.compile(r"[0-9]{1,18}")
_UTF8 = ("utf-8", "utf8", "us-ascii")


class NoFiles(FileUploadHandler):
    """Stands in for Django's handlers, which write a file to memory or to the temporary directory."""

    def new_file(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.request.sent_a_file = True  # type: ignore[union-attr]
        raise SuspiciousMultipartForm("This address takes no file.")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None: ...

    def file_complete(self, file_size: int) -> None: ...


class Utf8Request(WSGIRequest):
    """A request whose client does not choose the codec that decodes it; ``bound`` refuses all but UTF-8.

    Django decodes the query string as soon as the client names a codec, before any middleware: a codec that
    is not for text (hex) raised an error there, which the web server logged with its traceback.
    """

    @property
    def encoding(self) -> str | None:
        return None

    @encoding.setter
    def encoding(self, codec: str | None) -> None: ...


def bound(get_response: Handler) -> Handler:
    """Middleware: 411 to a body of unknown length, 413 to a long one, 400 to a file out of place.

    It answers 415 to text that is not UTF-8, whether in the body or in the query string.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        length = str(request.META.get("CONTENT_LENGTH") or "0")
        if request.META.get("HTTP_TRANSFER_ENCODING") or not _LENGTH.fullmatch(length):
            # Django takes a body without a length for an empty one.
            return refusal(request, 411, "length_required", "Send the length of the body: Content-Length.")
        if not _is_utf8(request):
            return refusal(request, 415, "unsupported_charset", "Send text as UTF-8: charset=utf-8.")
        if _file_limit(request) is not None:
            return get_response(request)
        if int(length) > (most := settings.DATA_UPLOAD_MAX_MEMORY_SIZE) and not _is_unread(request):
            sentence = f"The body is larger than {most:,} bytes, the most that this address takes."
            return refusal(request, 413, "too_large", sentence)
        request.upload_handlers = [NoFiles(request)]
        response = get_response(request)
        if getattr(request, "sent_a_file", False):
            return refusal(request, 400, "file_not_taken", "This address takes no file.")
        return response

    return middleware


def _is_utf8(request: HttpRequest) -> bool:
    """Whether Django reads the request as UTF-8.

    Other codecs that a client may name make lone surrogates (utf-7, unicode_escape), or are not for text
    (hex, zip): decoding then raises an error that no view expects.
    """
    return (request.content_params or {}).get("charset", "utf-8").lower() in _UTF8


def _is_unread(request: HttpRequest) -> bool:
    try:
        return ignores_body(resolve(request.path_info).func)
    except Resolver404:
        return False


def _file_limit(request: HttpRequest) -> int | None:
    """The largest file that the body may hold. Only a form is read in pieces; JSON is read into memory."""
    if request.content_type != "multipart/form-data":
        return None
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
