"""What stands in the log, and what must not."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.signing import Signer, TimestampSigner
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest
from django.test import Client
from django.utils.functional import SimpleLazyObject
from gunicorn.http.errors import InvalidRequestMethod
from gunicorn.workers.base import Worker
from structlog.contextvars import bound_contextvars

from accounts.models import User
from fluxsite import settings as product
from generation.models import Job
from operations import logs
from tests.conftest import asked, client_of, submit
from tests.operations.kept import Kept

PROMPT = "a secret garden at night"


@pytest.fixture
def kept() -> Iterator[Kept]:
    with Kept() as kept:
        yield kept


log = logging.getLogger("tests.operations")


def said(text: str, *arguments: object, exc_info: Any = None, **options: Any) -> str:
    """One event as the formatter writes it."""
    handler = Kept(**options)
    record = log.makeRecord(log.name, logging.INFO, __file__, 1, text, arguments, exc_info)
    handler.handle(record)
    return handler.texts[0]


def test_an_event_is_one_line_of_json_whatever_it_says() -> None:
    text = said("Two\nlines of %s", "“é”")
    assert "\n" not in text
    line = json.loads(text)
    assert line["event"] == "Two\nlines of “é”"
    assert (line["level"], line["logger"]) == ("info", "tests.operations")
    assert line["time"].endswith("Z")
    assert list(line)[:4] == ["time", "level", "logger", "event"]


def test_a_trace_is_part_of_its_line() -> None:
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError:
        line = json.loads(said("Failed", exc_info=sys.exc_info()))
    assert line["exception"].splitlines()[0] == "Traceback (most recent call last):"
    assert line["exception"].endswith("ZeroDivisionError: by nothing")


def test_text_is_for_people_and_moves_no_cursor() -> None:
    with bound_contextvars(job="42"):
        text = said("Hello \x1b[31m\x07there", form="text")
    assert text.endswith("INFO     Hello \\x1b[31m\\x07there  [tests.operations job=42]")


@pytest.mark.parametrize("signer", [Signer(), TimestampSigner()])
def test_what_we_signed_is_hidden(signer: Signer) -> None:
    """Links to set up, to join, to see a shared picture."""
    line = json.loads(said("Not found: /shared/%s/?page=2", signer.sign("0a" * 16)))
    assert line["event"] == "Not found: /shared/[hidden]/?page=2"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("fx_" + "0a" * 32, "[hidden]"),
        ("Authorization: Bearer abc-DEF_123.xyz", "Authorization: Bearer [hidden]"),
        ("GET /images/?signature=abcdefgh12&page=2", "GET /images/?signature=[hidden]&page=2"),
        ("A token is missing: /jobs/0197e2/", "A token is missing: /jobs/0197e2/"),
    ],
)
def test_tokens_are_hidden(text: str, left: str) -> None:
    assert json.loads(said("%s", text))["event"] == left
    assert json.loads(said("%s", text, prompts=True))["event"] == left


def test_the_prompt_of_a_job_is_hidden_unless_it_is_wished() -> None:
    with bound_contextvars(prompt=PROMPT):
        hidden = json.loads(said(f"Cannot read “{PROMPT}”"))
        shown = json.loads(said(f"Cannot read “{PROMPT}”", prompts=True))
    assert hidden["event"] == "Cannot read “[hidden]”"
    assert "prompt" not in hidden
    assert (shown["event"], shown["prompt"]) == (f"Cannot read “{PROMPT}”", PROMPT)


def test_what_a_database_quotes_of_a_refused_row_is_hidden(alice: User, kept: Kept) -> None:
    """PostgreSQL does: the whole row, which holds the prompt."""
    job = Job(owner=alice, seed=1, **asked(prompt=PROMPT + "\n\nand dew", width=63))
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        job.save(force_insert=True)
    assert (PROMPT in str(refused.value)) == (connection.vendor == "postgresql")
    log.error("Refused: %s", refused.value, exc_info=refused.value)
    (line,) = kept.lines
    assert "job_width" in line["event"] + line["exception"]
    assert PROMPT not in json.dumps(line)
    assert "and dew" not in json.dumps(line)


def test_a_request_stands_in_every_line_of_it(alice: User, kept: Kept) -> None:
    client = client_of(alice)
    answer = client.post("/api/v1/jobs/", asked(), format="json", HTTP_X_REQUEST_ID="from-the-proxy.7")
    assert answer["X-Request-ID"] == "from-the-proxy.7"
    submitted, answered = kept.lines
    assert submitted["event"] == f"Job {answer.json()['id']} submitted"
    assert submitted["job"] == answer.json()["id"]
    for line in (submitted, answered):
        assert (line["request"], line["user"]) == ("from-the-proxy.7", alice.pk)
    assert (answered["path"], answered["status_code"]) == ("/api/v1/jobs/", 201)
    assert asked()["prompt"] not in json.dumps(kept.lines)


def test_after_a_request_nothing_of_it_stays(alice: User, kept: Kept) -> None:
    client_of(alice).post("/api/v1/jobs/", asked(), format="json")
    log.info("Later")
    assert not {"request", "user"} & set(kept.lines[-1])


@pytest.mark.parametrize("given", ["", "a" * 65, "two words", "<script>", "ä", "line\r\nSet-Cookie: a=b"])
def test_a_request_without_a_good_id_gets_one(client: Client, given: str) -> None:
    first, second = (client.get("/healthz", headers={"X-Request-ID": given}) for _ in range(2))
    assert len(first["X-Request-ID"]) == 32
    assert first["X-Request-ID"] != second["X-Request-ID"]


def test_every_kind_of_answer_has_an_id(client: Client, alice: User, monkeypatch: Any) -> None:
    client.raise_request_exception = False
    assert client.get("/nowhere/")["X-Request-ID"]
    assert client.get("/gallery/").status_code == 302
    assert client.get("/gallery/")["X-Request-ID"]

    def fail(request: HttpRequest) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("django.contrib.auth.middleware.get_user", fail)
    broken = client.get("/gallery/")
    assert (broken.status_code, len(broken["X-Request-ID"])) == (500, 32)


def test_a_line_does_not_look_up_who_the_user_is() -> None:
    request = HttpRequest()
    request.META["HTTP_X_REQUEST_ID"] = "7"
    request.user = SimpleLazyObject(lambda: pytest.fail("looked up"))  # type: ignore[assignment]
    with bound_contextvars(request=request):
        assert json.loads(said("Hello"))["request"] == "7"


def test_what_a_worker_says_names_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("Q_CLUSTER_NAME", "bf16")
    monkeypatch.setenv("FLUXSITE_DEVICE", "GPU-7")
    assert json.loads(said("Hello"))["worker"].endswith("/GPU-7/bf16")


def test_a_job_that_nobody_owns_has_no_user(kept: Kept, alice: User) -> None:
    job = submit(alice)
    with bound_contextvars(job=str(job.pk), user=None):
        assert "user" not in said("Begins", form="text")


def test_a_wrong_host_header_writes_one_short_line_a_minute(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, clock = Kept(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    kept.addFilter(logs.OncePerMinute())
    with kept:
        for _ in range(5):
            assert client.get("/login/", headers={"Host": "evil.example"}).status_code == 400
        clock[0] += 61
        client.get("/login/", headers={"Host": "evil.example"})
    said = [line for line in kept.lines if line["logger"] == "django.security.DisallowedHost"]
    assert len(said) == 2
    assert "evil.example" in said[0]["event"]
    assert "(4 more like it since the last line)" in said[1]["event"]
    assert all(len(json.dumps(line)) < 600 for line in said)


def test_malformed_requests_write_one_short_line_a_minute_and_workers_every_line() -> None:
    kept, server = Kept(), logging.getLogger("gunicorn.error")
    kept.addFilter(logs.OncePerMinute())
    with kept:
        for _ in range(5):
            Worker.handle_error(_Server(), None, None, ("192.0.2.7", 1), InvalidRequestMethod("x" * 5000))
            server.warning("Worker exiting (pid: %s)", 7)
    said = [line["event"][:24] for line in kept.lines]
    assert said.count("Invalid request from ip=") == 1
    assert said.count("Worker exiting (pid: 7)") == 5
    assert all(len(json.dumps(line)) < 600 for line in kept.lines)


class _Server:
    """What gunicorn's worker needs to answer a request that it cannot read."""

    log = logging.getLogger("gunicorn.error")


def test_a_long_path_is_cut_in_the_log(client: Client, kept: Kept) -> None:
    client.post("/nowhere/" + "x" * 7000)
    assert all(len(json.dumps(line)) < 800 for line in kept.lines)
    assert kept.lines[-1]["path"].startswith("/nowhere/xxx")


def test_each_handler_keeps_the_same_lines() -> None:
    record = logging.LogRecord("django.security.csrf", logging.ERROR, "", 0, "x" * 5000, (), None)
    second = logging.LogRecord("django.security.csrf", logging.ERROR, "", 0, "y", (), None)
    shared = logs.OncePerMinute()
    assert [shared.filter(record), shared.filter(record)] == [True, True]
    assert [shared.filter(second), shared.filter(second)] == [False, False]
    assert shared.left_out == {"django.security.csrf": 1}


def test_what_is_wrong_with_the_studio_is_logged_each_time_and_whole() -> None:
    shared = logs.OncePerMinute()
    for name in ("django.request", "generation.runner"):
        for _ in range(3):
            record = logging.LogRecord(name, logging.ERROR, "", 0, "x" * 5000, (), None)
            record.status_code = 500
            assert shared.filter(record)
            assert len(record.getMessage()) == 5000


def test_both_handlers_of_the_product_leave_such_lines_out() -> None:
    for handler in product.LOGGING["handlers"].values():
        assert handler["filters"] == ["at_will"]
