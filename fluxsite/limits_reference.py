"""The limits of every route, taken from the code: ``manage.py limits_reference`` prints docs/limits.md."""

from collections.abc import Iterator

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.throttle import FAILURES_OF_AN_ADDRESS
from files.bodies import ENVELOPE, file_limit, ignores_body
from fluxsite import settings_reference
from fluxsite.server import limits
from operations.logs import OncePerMinute


def page() -> str:
    """The page as Markdown."""
    return "\n".join(_lines()) + "\n"


def routes(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Each address except the admin's, with its pattern."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route, entry
        elif not route.startswith("admin/"):
            yield from routes(entry, route)


def _lines() -> Iterator[str]:
    yield "# Limits"
    yield ""
    yield "This page is generated from the code: `manage.py limits_reference`."
    yield ""
    yield "## Every request"
    yield ""
    yield "| what | limit | beyond it |"
    yield "|---|---|---|"
    for what, limit, answer in _general():
        yield f"| {what} | {limit} | {answer} |"
    yield ""
    yield "## Bodies and rates by address"
    yield ""
    yield "A longer body is refused with 413 before it is read. Addresses below `/admin/` take the same as"
    yield "the other pages. Requests to the APIs are counted by user (`FLUXSITE_REQUESTS_A_MINUTE`)."
    most = f"{settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,}"
    yield f"Where a file is allowed, only `multipart/form-data` may be so long; others may have {most} bytes."
    yield ""
    yield "| address | body, bytes | file | requests a minute |"
    yield "|---|---|---|---|"
    yield from (_row(route, pattern) for route, pattern in routes())


def _general() -> Iterator[tuple[str, str, str]]:
    waits, streams = _default("FLUXSITE_WAITING_REQUESTS"), limits.STREAMS
    step = f"{limits.STEP_BYTES // 1024} KiB in {limits.STEP_SECONDS} s"
    yield "header", f"{limits.HEADER_BYTES // 1024} KiB, {limits.HEADER_SECONDS} s", "431, or the end"
    yield "body", "see below", "413"
    yield "body without Content-Length", "none", "411"
    yield "encoding of text", "UTF-8", "415"
    yield "body and answer in transfer", f"at least {step}", "the connection ends"
    yield (
        "reader of a finished answer",
        f"takes something every {limits.READER_SECONDS} s",
        "the connection ends",
    )
    yield "connections", f"{limits.CONNECTIONS:,}", "the oldest incomplete one ends"
    yield "uploads at once", f"{limits.UPLOADS}; {limits.UPLOADS_OF_ONE_ADDRESS} of one address", "503"
    yield "ZIP and CSV at once", f"{streams}; {limits.STREAMS_OF_ONE_CLIENT} of one client", "503"
    yield (
        "requests that wait for pictures",
        f"{waits}; half of them of one person",
        "503, or an answer at once",
    )
    yield "time of waiting for pictures", f"{_default('FLUXSITE_WAIT_SECONDS')} s", "504, or the job as it is"
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    yield (
        "failed logins",
        f"{settings.AXES_FAILURE_LIMIT} of an account and address, {FAILURES_OF_AN_ADDRESS} of an address",
        f"429 for {minutes} minutes",
    )
    yield (
        "lines of the log that anybody can cause",
        f"one of a kind in {OncePerMinute.SECONDS:.0f} s",
        "counted in the next line",
    )


def _row(route: str, pattern: URLPattern) -> str:
    limit = file_limit(pattern.callback, "POST")
    body = limit + ENVELOPE if limit else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    size = "not read" if ignores_body(pattern.callback) else f"{body:,}"
    file = f"{limit / 1e6:,.0f} MB" if limit else "–"
    address = f"{route.partition('(?P<')[0].lstrip('^')}…" if "(?P<" in route else route
    return f"| `/{address}` | {size} | {file} | {_rate(pattern)} |"


def _rate(pattern: URLPattern) -> str:
    """Requests that a user may send in a minute; the views of the APIs count them."""
    counted = getattr(getattr(pattern.callback, "cls", None), "throttle_classes", ())
    return _default("FLUXSITE_REQUESTS_A_MINUTE") if counted else "–"


def _default(name: str) -> str:
    """The default of a setting, whatever it is here."""
    return next(one.default.strip("`") for one in settings_reference.settings() if one.name == name)
