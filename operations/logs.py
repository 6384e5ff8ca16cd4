"""What a line of the log is: one JSON object, or readable text on a terminal.

It says when, how bad, what, and about which request, user (by number), job and worker, as far as those are
known. What is bound with ``structlog.contextvars.bound_contextvars`` stands in every line that is logged
meanwhile. Secrets are taken out.
"""

import json
import logging
import os
import re
import socket
import sys
import time
from typing import Any

import structlog
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

# What log calls may give as ``extra``. Django's own give objects, which are no business of a log.
EXTRA = {"job", "worker", "user", "status_code", "method", "path", "seconds", "outcome"}
FIRST = ("time", "level", "logger", "event")
# A shorter prompt may be part of any word.
SHORTEST_PROMPT = 4
# API tokens; what stands behind these words; and whatever Django signed: links to set up, to join, to see.
_TOKENS = re.compile(
    r"\bfx_\w{6,}|(?i:(?<=bearer )|(?<=signature=)|(?<=token=))[^/\s\"'&]{8,}"
    r"|[\w.\-=]+:(?:[\w\-]{6}:)?[\w\-]{43}(?![\w\-])"
)
# PostgreSQL quotes the whole row that a constraint refuses, the prompt too.
_ROWS = re.compile(
    r"DETAIL:.*?(?=\n\nThe above exception|\n\nDuring handling|\nCONTEXT:|\Z)", re.DOTALL | re.IGNORECASE
)
HIDDEN = "[hidden]"
# What would move the cursor of a terminal, or worse.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class OncePerMinute(logging.Filter):
    """Of lines that anybody can cause at will, one of each kind a minute is kept, short and without a trace.

    Such as a wrong Host header: 252 requests a second wrote 1.2 kB each at level ERROR. The next line says
    how many were left out.
    """

    NAMES = ("django.security.", "django.request", "accounts.throttle")
    SECONDS = 60.0
    LONGEST = 200

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, float] = {}
        self.left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not (record.name.startswith(self.NAMES) or _is_malformed(record)) or _is_a_fault(record):
            return True
        facts = vars(record)
        if "is_kept" not in facts:  # each handler asks for itself
            facts["is_kept"] = self._is_due(record)
        return bool(facts["is_kept"])

    def _is_due(self, record: logging.LogRecord) -> bool:
        now, last = time.monotonic(), self.last.get(record.name)
        if last is not None and now - last < self.SECONDS:
            self.left_out[record.name] = self.left_out.get(record.name, 0) + 1
            return False
        self.last[record.name] = now
        _shorten(record, self.LONGEST, self.left_out.pop(record.name, 0))
        return True


def _shorten(record: logging.LogRecord, longest: int, left_out: int) -> None:
    said = record.getMessage()[:longest]
    record.msg = f"{said} ({left_out} more like it since the last line)" if left_out else said
    record.args, record.exc_info, record.exc_text = (), None, None
    if record.levelno > logging.WARNING:
        record.levelno, record.levelname = logging.WARNING, "WARNING"


def _is_malformed(record: logging.LogRecord) -> bool:
    """Whether gunicorn refused a request before Django saw it; the rest of its log is about its workers."""
    return record.name == "gunicorn.error" and str(record.msg).startswith("Invalid request from ip=")


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Whether it is about an error of the studio: those are logged whole, each."""
    return record.name == "django.request" and getattr(record, "status_code", 500) >= 500


def formatter(form: str = "json", prompts: bool = False) -> logging.Formatter:
    """For ``logging.config``. ``form``: json, text, or auto, which is text on a terminal.

    ``prompts``: leave them in.
    """
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=EXTRA),
        structlog.processors.TimeStamper("iso", utc=True, key="time"),
        _Process(),
        _say_who_asked,
        structlog.processors.format_exc_info,
        _HideSecrets(prompts),
    ]
    render = structlog.processors.JSONRenderer(_dump) if form == "json" else _text
    return ProcessorFormatter(
        foreign_pre_chain=before, processors=[ProcessorFormatter.remove_processors_meta, render]
    )


def _dump(line: dict[str, Any], **options: Any) -> str:
    # Sorted as people read them, and never more than one line.
    first = {name: line.pop(name) for name in FIRST if name in line}
    return json.dumps(first | line, ensure_ascii=False, default=str)


class _Process:
    """Which process speaks; of a cluster's processes, which worker they belong to."""

    def __init__(self) -> None:
        engine, device = os.environ.get("Q_CLUSTER_NAME", ""), os.environ.get("FLUXSITE_DEVICE", "")
        self.worker = f"{socket.gethostname()}/{device}/{engine}" if engine and device else ""

    def __call__(self, logger: Any, name: str, line: EventDict) -> EventDict:
        line["pid"] = os.getpid()
        if self.worker:
            line.setdefault("worker", self.worker)
        return line


def _say_who_asked(logger: Any, name: str, line: EventDict) -> EventDict:
    """The request's id, and its user's if anybody has asked who that is: a line starts no query."""
    request = line.pop("request", None)
    if not isinstance(request, HttpRequest):
        return line
    line["request"] = request.META.get("HTTP_X_REQUEST_ID", "")
    user = getattr(request, "user", None)
    is_known = not (isinstance(user, LazyObject) and user._wrapped is empty)
    if user is not None and is_known and user.pk:
        line.setdefault("user", user.pk)
    return line


class _HideSecrets:
    """No token, whatever is logged; and no prompt, unless that is wished."""

    def __init__(self, prompts: bool) -> None:
        self.prompts = prompts

    def __call__(self, logger: Any, name: str, line: EventDict) -> EventDict:
        prompt = str(line.get("prompt", ""))
        if not self.prompts:
            line.pop("prompt", None)
        for key in ("event", "exception", "path"):
            if key in line:
                line[key] = self._clean(str(line[key]), prompt)
        return line

    def _clean(self, text: str, prompt: str) -> str:
        text = _TOKENS.sub(HIDDEN, text)
        if self.prompts:
            return text
        if len(prompt) >= SHORTEST_PROMPT:
            text = text.replace(prompt, HIDDEN)
        return _ROWS.sub(f"DETAIL: {HIDDEN}", text)


def _text(logger: Any, name: str, line: EventDict) -> str:
    return text_of(dict(line))


def text_of(line: dict[str, Any]) -> str:
    """A line of the log as people read it; a trace comes below."""
    time, level = str(line.pop("time", ""))[:19].replace("T", " "), str(line.pop("level", "")).upper()
    event, trace, logger = line.pop("event", ""), line.pop("exception", ""), line.pop("logger", "")
    line.pop("pid", None)
    facts = "".join(f" {name}={value}" for name, value in line.items() if value not in ("", None))
    said = f"{time} {level:8} {event}  [{logger}{facts}]"
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], f"{said}\n{trace}" if trace else said)
