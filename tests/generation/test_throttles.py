"""The limit on requests: counted together, said in words, and forgotten with the minute."""

from collections.abc import Iterator
from typing import Any

import pytest

from accounts.models import User
from generation import throttles
from generation.models import RequestCount
from tests.conftest import client_of


class Clock:
    """Time as ``generation.throttles`` sees it."""

    def __init__(self) -> None:
        self.now = 600.0

    def time(self) -> float:
        return self.now

    monotonic = time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Clock]:
    settings.FLUXSITE_REQUESTS_A_MINUTE = 5
    clock = Clock()
    monkeypatch.setattr(throttles, "time", clock)
    throttles.PerUser._counts.clear()
    yield clock
    throttles.PerUser._counts.clear()


def forget_process() -> None:
    """What another process is to this one: it knows what is in the database."""
    throttles.PerUser._counts.clear()


def test_more_requests_than_may_are_told_when_to_come_again(clock: Clock, alice: User, bob: User) -> None:
    client = client_of(alice)
    clock.now = 640.0
    assert [client.get("/api/v1/me/").status_code for _ in range(6)] == [200] * 5 + [429]
    response = client.get("/api/v1/jobs/")
    assert (response.status_code, response["Retry-After"]) == (429, "20")
    answer = response.json()
    assert (answer["type"], answer["limit"]) == ("client_error", 5)
    assert answer["errors"][0] == {
        "code": "throttled",
        "detail": "More than 5 requests in this minute, which are allowed. Try again in 20 s.",
        "attr": None,
    }
    assert client_of(bob).get("/api/v1/me/").status_code == 200
    clock.now = 660.0
    assert client.get("/api/v1/me/").status_code == 200


def test_openais_clients_are_counted_too_and_may_ask_again(clock: Clock, alice: User) -> None:
    client = client_of(alice)
    answers = [client.get("/v1/models") for _ in range(6)]
    error = answers[-1].json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "throttled")
    assert "x-should-retry" not in answers[-1]


def test_processes_count_together(clock: Clock, alice: User) -> None:
    client = client_of(alice)
    for _ in range(5):
        assert client.get("/api/v1/me/").status_code == 200
        forget_process()
    assert client.get("/api/v1/me/").status_code == 429
    assert RequestCount.objects.get().count == 6


def test_hosts_whose_clocks_differ_count_together(alice: User) -> None:
    assert [RequestCount.add(alice, minute, 1) for minute in (10, 11, 10, 11, 10)] == [1, 1, 2, 3, 4]
    assert RequestCount.objects.get().minute == 11
    assert RequestCount.add(alice, 12, 1) == 1
    assert RequestCount.add(alice, 3, 1) == 1  # a clock that was wrong by more holds nobody up
    assert RequestCount.objects.get().minute == 3


def test_most_requests_write_nothing(clock: Clock, alice: User, settings: Any) -> None:
    settings.FLUXSITE_REQUESTS_A_MINUTE = 1000
    client = client_of(alice)
    for _ in range(10):
        client.get("/api/v1/me/")
    assert not RequestCount.objects.exists()
    clock.now += 1.5
    client.get("/api/v1/me/")
    assert RequestCount.objects.get().count == 11


def test_counts_of_minutes_that_are_over_are_forgotten(clock: Clock, alice: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(throttles, "MANY", 1)
    throttles.PerUser._counts.update({pk: throttles._Count(minute=1) for pk in range(-3, 0)})
    client_of(alice).get("/api/v1/me/")
    assert list(throttles.PerUser._counts) == [alice.pk]
