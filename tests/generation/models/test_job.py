"""Jobs and pictures: what is recorded, and what the database refuses."""

import pytest
from django.db import IntegrityError

from accounts.models import User
from generation import limits
from generation.models import Image, Job
from tests.conftest import asked, submit


def test_a_seed_left_out_is_chosen_and_recorded(alice: User) -> None:
    seeds = {submit(alice).seed for _ in range(5)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_seed_asked_for_is_kept(alice: User) -> None:
    job = submit(alice, seed=limits.MAX_SEED)
    job.refresh_from_db()
    assert job.seed == 9_007_199_254_740_991


def test_each_picture_has_the_next_seed(alice: User) -> None:
    assert list(submit(alice, seed=7, count=3).seeds) == [7, 8, 9]


def test_jobs_and_pictures_are_visible_to_their_owner_only(alice: User, bob: User) -> None:
    job = submit(alice)
    assert list(Job.objects.visible_to(alice)) == [job]
    assert not Job.objects.visible_to(bob).exists()
    assert not Image.objects.visible_to(bob).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 63},
        {"height": 4096},
        {"width": 72},
        {"count": 0},
        {"count": 5},
        {"steps": 0},
        {"steps": 51},
        {"seed": -1},
        {"seed": 2**53},
    ],
)
def test_the_database_refuses_what_slipped_through(alice: User, wrong: dict[str, int]) -> None:
    with pytest.raises(IntegrityError):
        Job.submit(alice, **asked(**wrong))
