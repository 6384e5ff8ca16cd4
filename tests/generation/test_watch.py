"""The watch over the worker of a cluster."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from generation.watch import BEFORE_THE_FIRST, StepClock, WatchedWorker
from generation.watch import worker as shared

FORK = multiprocessing.get_context("fork")
Kills = list[tuple[int, int]]


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Kills:
    killed: Kills = []
    monkeypatch.setattr(os, "kill", lambda pid, how: killed.append((pid, how)))
    return killed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Time stands still at its one number."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now
    StepClock.stop()


def test_a_worker_is_ready_after_its_start_and_after_each_task(clock: list[float]) -> None:
    worker = WatchedWorker()
    assert not worker.is_ready()
    worker.started()
    assert worker.is_ready()
    worker.woken()
    assert not worker.is_ready()
    worker.busy()
    assert not worker.is_ready()
    worker.ready()
    assert worker.is_ready()


def test_a_worker_that_cannot_work_now_is_left_alone_for_a_while(clock: list[float]) -> None:
    worker = WatchedWorker()
    worker.ready(rest=5.0)
    assert not worker.is_ready()
    clock[0] += 5.0
    assert worker.is_ready()


def test_a_wake_up_that_nobody_answers_ends_the_cluster(clock: list[float], kills: Kills) -> None:
    worker = WatchedWorker()
    worker.started()
    worker.woken()
    for _ in range(20):
        clock[0] += 0.5
        worker.watch()
    assert kills == []
    clock[0] += 0.5
    worker.watch()
    assert kills == [(os.getppid(), signal.SIGKILL)]


def test_a_host_that_stood_still_is_no_silence(clock: list[float], kills: Kills) -> None:
    worker = WatchedWorker()
    worker.started()
    worker.woken()
    clock[0] += 3600
    worker.watch()
    assert kills == []


def test_the_worker_hears_that_the_pusher_ended_and_that_another_began() -> None:
    worker, heard = WatchedWorker(), []
    for exits in (True, False):
        pusher = FORK.Process(target=run_pusher, args=(worker, exits))
        pusher.start()
        pusher.join()
        heard.append(worker.stops())
    assert heard == [True, False]


def test_a_worker_at_work_is_not_hurried(clock: list[float], kills: Kills) -> None:
    worker = WatchedWorker()
    worker.started()
    worker.woken()
    worker.busy()
    clock[0] += 3600
    worker.watch()
    assert kills == []


def run_pusher(worker: WatchedWorker, exits: bool) -> None:
    worker.pusher_started()
    if not exits:
        signal.raise_signal(signal.SIGKILL)


@pytest.fixture
def steps(clock: list[float], settings: Any) -> StepClock:
    settings.FLUXSITE_STUCK_SECONDS = 60
    shared.started()
    return StepClock()


def test_a_step_that_hangs_is_ended_once(steps: StepClock, clock: list[float], kills: Kills) -> None:
    steps.start()
    steps.step(pixels=4096)
    clock[0] += 59
    shared.watch()
    assert kills == []
    clock[0] += 2
    shared.watch()
    shared.watch()
    assert kills == [(os.getpid(), signal.SIGKILL)]


def test_the_first_step_has_longer(steps: StepClock, clock: list[float], kills: Kills) -> None:
    steps.start()
    clock[0] += 60 * BEFORE_THE_FIRST - 1
    shared.watch()
    assert kills == []
    clock[0] += 2
    shared.watch()
    assert len(kills) == 1


def test_slow_steps_may_take_ten_times_what_they_usually_take(
    steps: StepClock, clock: list[float], kills: Kills
) -> None:
    steps.start()
    for _ in range(4):
        clock[0] += 20
        steps.step(pixels=1000)
    clock[0] += 199
    shared.watch()
    assert kills == []
    # Twice as many pixels, twice as long.
    steps.step(pixels=2000)
    clock[0] += 399
    shared.watch()
    assert kills == []
    clock[0] += 2
    shared.watch()
    assert len(kills) == 1


def test_nothing_is_watched_between_pictures(steps: StepClock, clock: list[float], kills: Kills) -> None:
    steps.start()
    steps.step(pixels=1000)
    steps.stop()
    clock[0] += 3600
    shared.watch()
    assert kills == []
