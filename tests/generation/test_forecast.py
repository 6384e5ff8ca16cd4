"""What is said of a job before it is drawn."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone

from accounts.models import User
from generation import forecast, operations
from generation.forecast import Place
from generation.models import Job
from gpu.models import Mode, Pool, Worker
from tests.conftest import client_of, submit
from tests.generation.test_queue import used


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    cache.clear()


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.start("atelier-01", "cpu", "bf16", 101)


def drawn(owner: User, seconds: float, **asked: Any) -> None:
    job = submit(owner, **asked)
    Job.objects.filter(pk=job.pk).update(
        state="succeeded", attempt=1, draw_seconds=seconds - 0.5, save_seconds=0.5
    )
    cache.clear()


def unsaved(owner: User, **asked: Any) -> Job:
    values = {"width": 64, "height": 64, "count": 1, "steps": 4, "engine": "bf16", **asked}
    return Job(owner=owner, **values)


def places() -> list[Place]:
    cache.clear()
    return list(forecast.places("bf16").values())


def loaded(worker: Worker, **facts: Any) -> None:
    worker.now(model="demo", **facts)


def test_nothing_is_said_before_anything_was_drawn(alice: User, worker: Worker) -> None:
    assert forecast.seconds_of(unsaved(alice)) is None
    submit(alice)
    assert places() == [Place(1, None)]


def test_a_job_is_expected_to_take_what_one_like_it_took(alice: User) -> None:
    for seconds in (2.0, 3.0, 100.0):
        drawn(alice, seconds)
    assert forecast.seconds_of(unsaved(alice)) == 3.0
    assert forecast.seconds_of(unsaved(alice, count=3)) == 9.0


def test_another_size_is_reckoned_by_its_pixels_and_steps(alice: User) -> None:
    drawn(alice, 2.0)
    assert forecast.seconds_of(unsaved(alice, width=128, height=64, steps=8)) == pytest.approx(8.0)


def test_the_engines_are_learned_apart(alice: User) -> None:
    drawn(alice, 2.0, engine="fp4")
    assert forecast.seconds_of(unsaved(alice)) is None


def test_the_expectation_is_kept_with_the_job(alice: User) -> None:
    drawn(alice, 2.0)
    assert submit(alice).expected_seconds == 2.0


def test_the_line_is_in_the_order_of_the_claims(alice: User, bob: User, worker: Worker) -> None:
    """Fair share included: of alice's jobs only one is before bob's, as she used up more by then."""
    drawn(alice, 20.0)
    jobs = [submit(alice), submit(alice), submit(alice), submit(bob)]
    urgent = submit(alice)
    Job.objects.filter(pk=urgent.pk).update(priority=1)
    cache.clear()
    line = list(forecast.places("bf16"))
    claimed = []
    while job := Job.objects.claim("bf16", worker):
        claimed.append(job.pk)
        Job.objects.filter(pk=job.pk).update(started_at=timezone.now())
        Job.objects.finish(job, "succeeded", gpu_seconds=20.0)
    assert line == claimed
    assert line.index(jobs[3].pk) < line.index(jobs[1].pk)


def test_waits_add_up_and_are_shared_by_the_slots(alice: User, worker: Worker) -> None:
    drawn(alice, 10.0)
    loaded(worker)
    for _ in range(3):
        submit(alice)
    assert [place.wait for place in places()] == [0, 10, 20]
    loaded(Worker.start("atelier-02", "cpu", "bf16", 102))
    assert [place.wait for place in places()] == [0, 0, 10]


def test_a_running_job_and_a_cold_model_are_waited_for(alice: User, worker: Worker) -> None:
    drawn(alice, 10.0)
    worker.now(load_seconds=7.0)
    submit(alice)
    running = Job.objects.claim("bf16", worker)
    assert running
    Job.objects.filter(pk=running.pk).update(started_at=timezone.now() - timedelta(seconds=4))
    submit(alice)
    (place,) = places()
    assert place.wait == pytest.approx(7 + 6, abs=0.5)


@pytest.mark.parametrize("why", ["engine paused", "worker paused", "stopped", "waiting"])
def test_no_wait_is_promised_while_nobody_draws(alice: User, worker: Worker, why: str) -> None:
    drawn(alice, 10.0)
    loaded(worker)
    if why == "stopped":
        worker.now(Worker.State.STOPPED)
    elif why == "waiting":
        worker.now(Worker.State.WAITING)
    else:
        operations.set_mode(Pool.of("bf16") if why == "engine paused" else worker, Mode.PAUSE)
    submit(alice)
    assert places() == [Place(1, None)]
    assert forecast.wait_now("bf16") is None


def test_a_new_job_would_wait_behind_the_last_one(alice: User, worker: Worker) -> None:
    drawn(alice, 10.0)
    loaded(worker)
    assert forecast.wait_now("bf16") == 0
    submit(alice)
    submit(alice)
    cache.clear()
    assert forecast.wait_now("bf16") == 20


def test_the_api_tells_place_and_wait_of_a_job_that_came_just_now(alice: User, worker: Worker) -> None:
    drawn(alice, 10.0)
    loaded(worker)
    submit(alice)
    places()
    client = client_of(alice)
    answer = client.post(
        "/api/v1/jobs/", {"prompt": "a red circle", "width": 64, "height": 64}, format="json"
    )
    assert answer.status_code == 201, answer.json()
    assert answer.json()["queue"] == {"position": 2, "wait_seconds": 10.0}
    assert answer.json()["expected_seconds"] == 10.0


def test_many_pages_ask_the_database_once(
    alice: User, worker: Worker, django_assert_num_queries: Any
) -> None:
    used(alice, 1)
    submit(alice)
    forecast.places("bf16")
    with django_assert_num_queries(0):
        forecast.places("bf16")
