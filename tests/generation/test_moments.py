"""When a picture was made, as a number."""

from datetime import timedelta

from django.utils import timezone

from generation.moments import moment_at, new_moment


def test_moments_are_in_the_order_of_time() -> None:
    before = timezone.now()
    moment = new_moment()
    assert moment_at(before) <= moment < moment_at(timezone.now() + timedelta(milliseconds=2))


def test_moments_of_the_same_millisecond_differ() -> None:
    assert len({new_moment() for _ in range(100)}) == 100


def test_a_moment_fits_the_databases_for_decades() -> None:
    assert moment_at(timezone.now() + timedelta(days=60 * 365)) < 2**63
