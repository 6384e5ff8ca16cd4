"""Views that belong to no app."""

import json
from functools import cache
from typing import Any

from csp.decorators import csp_update
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import render
from django.template.loader import get_template
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fluxsite import __version__


@login_not_required
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the web process answers. It looks at nothing else: that is what a restart can mend."""
    return HttpResponse("ok\n", content_type="text/plain")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The page for a request that Django refuses; it names the setting where the host name is the reason."""
    sentence = ""
    if isinstance(exception, DisallowedHost):
        host = request.META.get("HTTP_HOST", "")[:100]
        sentence = (
            f"The studio does not answer at the name {host}. Whoever runs it can add the name to "
            "FLUXSITE_ALLOWED_HOSTS, or set FLUXSITE_URL to the address that people type."
        )
    # Without the request: what templates get by it would ask for the host name again.
    return HttpResponseBadRequest(get_template("400.html").render({"sentence": sentence}))


@login_not_required
@require_safe
@condition(etag_func=lambda request: f'"{__version__}"')
def schema(request: HttpRequest) -> HttpResponse:
    """The API in OpenAPI 3. For everybody: it says what the code does, and nothing of this studio."""
    return HttpResponse(_schema(), content_type="application/json")


@cache
def _schema() -> bytes:
    """Once for each process: it takes a second."""
    generator: Any = SchemaGenerator()  # type: ignore[no-untyped-call]
    return json.dumps(generator.get_schema(request=None, public=True)).encode()


class NothingHere(APIView):
    """Any other address of the API: its clients read JSON, not the page that people get."""

    @extend_schema(exclude=True)
    def _nothing(self, request: Request, rest: str) -> Response:
        where = f"{request.method} /api/v1/{rest}"
        raise NotFound(f"There is no {where} here. Addresses end in a slash; /api/v1/schema/ has them all.")

    get = post = put = patch = delete = _nothing


@login_not_required
@require_safe
def swagger(request: HttpRequest) -> HttpResponse:
    """The schema, to try it out."""
    return render(request, "api/swagger.html")


# Redoc makes style elements and fills them by script: the hash lets it make empty ones, and no others.
_EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"


@login_not_required
@require_safe
@csp_update({"style-src": ["'self'", _EMPTY]})  # type: ignore[untyped-decorator]
def redoc(request: HttpRequest) -> HttpResponse:
    """The schema, to read."""
    return render(request, "api/redoc.html")
