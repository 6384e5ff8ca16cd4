"""A form with a file: what announces more than is allowed is refused before a byte of it is read."""

from collections.abc import Callable
from functools import wraps

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt, csrf_protect

View = Callable[[HttpRequest], HttpResponse]
# What a form sends beside its file.
_ENVELOPE = 10_000


def bounded_upload(most: int, refused: View) -> Callable[[View], View]:
    """For a view that takes a body of ``most`` bytes; ``refused`` answers where it is longer.

    The check of CSRF comes second, as it reads the form: the view must not be open to people without account.
    """

    def bounded(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def receive(request: HttpRequest) -> HttpResponse:
            announced = str(request.META.get("CONTENT_LENGTH", ""))
            if announced.isdecimal() and int(announced) > most + _ENVELOPE:
                return refused(request)
            return csrf_protect(view)(request)

        return receive

    return bounded
