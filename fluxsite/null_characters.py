"""PostgreSQL takes no null character in a text, and no address of ours has one."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from fluxsite.bodies import refusal

Handler = Callable[[HttpRequest], HttpResponse]


def refuse(get_response: Handler) -> Handler:
    """Middleware: 400 to an address with a null character in its path or its query.

    In a body, the fields of forms and ``fluxsite.parsers`` look for them.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        query = request.META.get("QUERY_STRING", "")
        if "\0" in request.path_info or "\0" in query or "%00" in query:
            return refusal(request, 400, "null_characters", "Null characters are not allowed in an address.")
        return get_response(request)

    return middleware
