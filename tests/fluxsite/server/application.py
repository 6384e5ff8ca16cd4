"""What the worker's tests serve: a WSGI application without a database."""

import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LARGE, IN_MEMORY = 64_000_000, 8_000_000
noticed = threading.Event()
_file = Path(tempfile.mkdtemp()) / "large"


class Stream:
    streaming = True

    def __iter__(self) -> Iterator[bytes]:
        yield b"first"
        threading.Event().wait()


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """``/echo``: the body. ``/file``, ``/memory``: many bytes. ``/stream``: one piece, and no end."""
    headers = [("Content-Type", "application/octet-stream")]
    kind = environ["PATH_INFO"]
    if kind == "/stream":
        start_response("200 OK", headers)
        return Stream()
    if kind == "/file":
        if not _file.exists():
            with _file.open("wb") as made:
                made.truncate(LARGE)
        start_response("200 OK", [*headers, ("Content-Length", str(LARGE))])
        return environ["wsgi.file_wrapper"](_file.open("rb"), 65536)  # type: ignore[no-any-return]
    body = {"/echo": _echo, "/memory": lambda _: bytes(IN_MEMORY), "/first": _first,
            "/gone": _gone, "/noticed": _noticed}.get(kind, lambda _: b"here")(environ)  # fmt: skip
    start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]


def _echo(environ: Any) -> bytes:
    return str(len(environ["wsgi.input"].read())).encode()


def _first(environ: Any) -> bytes:
    """The first byte of the body, before the rest of it comes."""
    return environ["wsgi.input"].read(1)  # type: ignore[no-any-return]


def _gone(environ: Any) -> bytes:
    """Waits until its client has disconnected."""
    in_vain = environ["fluxsite.waits_in_vain"]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if in_vain():
            noticed.set()
            break
        time.sleep(0.01)
    return b""


def _noticed(environ: Any) -> bytes:
    return str(noticed.wait(60)).encode()
