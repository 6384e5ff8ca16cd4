"""Places in which requests wait for their pictures."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory

from accounts.models import User
from generation import waiting


@pytest.fixture
def places() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def test_one_person_holds_half_of_the_places_at_most(
    alice: User, bob: User, places: ExitStack, settings: Any
) -> None:
    settings.FLUXSITE_WAITING_REQUESTS = 4
    first = waiting.Place(alice)
    places.enter_context(waiting.Place(alice))
    with pytest.raises(waiting.NoPlaceForOne):
        waiting.Place(alice)
    for _ in range(2):
        places.enter_context(waiting.Place(bob))
    with pytest.raises(waiting.NoPlace, match="Too many requests"):
        waiting.Place(alice)
    first.leave()
    first.leave()
    places.enter_context(waiting.Place(alice))
    with pytest.raises(waiting.NoPlace):
        waiting.Place(alice)


def test_the_only_place_is_for_everyone(alice: User, places: ExitStack, settings: Any) -> None:
    settings.FLUXSITE_WAITING_REQUESTS = 1
    places.enter_context(waiting.Place(alice))


def request(**environ: Any) -> HttpRequest:
    return RequestFactory().get("/", **environ)


def test_a_request_whose_client_has_left_waits_no_longer() -> None:
    answers = iter([False, False, True])
    left = request(**{"fluxsite.waits_in_vain": lambda: next(answers)})
    assert len(list(waiting.looks(3600, left))) == 3


def test_under_another_server_a_request_waits_for_its_time() -> None:
    assert len(list(waiting.looks(0.01, request()))) == 2
