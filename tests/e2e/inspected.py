"""The product's WSGI application, plus ``/modules``: the names of the top-level modules that are loaded."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fluxsite.wsgi import application as product

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/modules":
        return product(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["\n".join(sorted({name.partition(".")[0] for name in sys.modules})).encode()]
