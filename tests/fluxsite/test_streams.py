"""How many streams run at a time, in all and for one client."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http import FileResponse, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.test import RequestFactory

from accounts.models import User
from fluxsite import streams
from fluxsite.server import limits

# Closing an answer looks at the thread's connection to the database.
pytestmark = pytest.mark.django_db
Ask = Callable[..., HttpResponseBase]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Asks for a stream and does not read it."""
    answers: list[HttpResponseBase] = []

    def send(user: User | None = None, answer: Any = None, path: str = "/x.zip", **meta: Any) -> Any:
        def view(request: HttpRequest) -> HttpResponseBase:
            return answer or StreamingHttpResponse(iter([b"a", b"b"]), content_type="application/zip")

        request = RequestFactory().get(path, **meta)
        if user:
            request.user = user
        answers.append(streams.limited(view)(request))
        return answers[-1]

    yield send
    for each in answers:
        each.close()


def test_a_client_that_has_all_its_streams_is_told_when_to_come_again(ask: Ask, alice: User) -> None:
    running = [ask(alice) for _ in range(limits.STREAMS_OF_ONE_CLIENT)]
    assert {each.status_code for each in running} == {200}
    refused: Any = ask(alice)
    assert (refused.status_code, refused["Retry-After"]) == (503, "5")
    assert b"Too many downloads" in refused.content
    running[0].close()
    running[0].close()
    assert [ask(alice).status_code for _ in range(2)] == [200, 503]


def test_one_client_leaves_places_for_others(ask: Ask, alice: User, bob: User) -> None:
    for _ in range(limits.STREAMS_OF_ONE_CLIENT + 1):
        ask(alice)
    assert ask(bob).status_code == 200
    assert ask(REMOTE_ADDR="192.0.2.1").status_code == 200


def test_all_clients_together_are_limited_too(ask: Ask) -> None:
    answers = [ask(REMOTE_ADDR=f"192.0.2.{n}", path="/api/v1/x") for n in range(limits.STREAMS + 1)]
    assert [each.status_code for each in answers] == [200] * limits.STREAMS + [503]
    assert answers[-1]["Content-Type"] == "application/json"


def test_a_stream_that_is_read_to_its_end_gives_its_place_back(ask: Ask) -> None:
    for _ in range(limits.STREAMS_OF_ONE_CLIENT + 1):
        answer: Any = ask()
        assert answer.getvalue() == b"ab"
        answer.close()


def test_files_and_events_hold_no_place(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    for _ in range(limits.STREAMS + 1):
        assert ask(answer=FileResponse((tmp_path / "a.png").open("rb"))).status_code == 200
        events = StreamingHttpResponse(iter([b""]), content_type="text/event-stream; charset=utf-8")
        assert ask(answer=events).status_code == 200
    in_memory = [ask(answer=FileResponse(io.BytesIO(b"a"))) for _ in range(limits.STREAMS_OF_ONE_CLIENT + 1)]
    assert in_memory[-1].status_code == 503
