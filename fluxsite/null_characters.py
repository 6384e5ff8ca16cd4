"""PostgreSQL stores no null character, and no address or cookie of the studio has one."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from fluxsite.bodies import refusal

Handler = Callable[[HttpRequest], HttpResponse]


def refuse(get_response: Handler) -> Handler:
    """Middleware: 400 to a request with a null character in its path, its query or a cookie.

    A quoted cookie may have one as ``\\000``; PostgreSQL refuses to look up a session by it. In a body, the
    fields of forms and ``fluxsite.parsers`` look for them.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        query = request.META.get("QUERY_STRING", "")
        if "\0" in request.path_info or "\0" in query or "%00" in query:
            return refusal(request, 400, "null_characters", "Null characters are not allowed in an address.")
        if any("\0" in value for value in request.COOKIES.values()):
            request.COOKIES.clear()  # the page of the refusal asks for the session
            return refusal(request, 400, "null_characters", "Null characters are not allowed in a cookie.")
        return get_response(request)

    return middleware
