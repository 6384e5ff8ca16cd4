"""PostgreSQL takes no null character in a text, and no address of ours has one."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from generation.openai_api.errors import shape

Handler = Callable[[HttpRequest], HttpResponse]

_ERROR = {"code": "null_characters", "detail": "Null characters are not allowed in an address.", "attr": None}


def refuse(get_response: Handler) -> Handler:
    """Middleware: 400 to an address with a null character in its path or its query.

    What comes in a body, the fields of forms and serializers look at.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        query = request.META.get("QUERY_STRING", "")
        if "\0" in request.path_info or "\0" in query or "%00" in query:
            return _refusal(request)
        return get_response(request)

    return middleware


def _refusal(request: HttpRequest) -> HttpResponse:
    if request.path_info.startswith("/api/v1/"):
        return JsonResponse({"type": "client_error", "errors": [_ERROR]}, status=400)
    if request.path_info.startswith("/v1/"):
        return JsonResponse({"error": shape(400, [_ERROR])}, status=400)
    return render(request, "400.html", {"sentence": _ERROR["detail"]}, status=400)
