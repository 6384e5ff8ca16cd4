"""``manage.py queue``."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from gpu.models import Pool, Worker
from tests.conftest import submit


def queue(*words: str) -> str:
    out = StringIO()
    call_command("queue", *words, stdout=out)
    return out.getvalue()


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.start("atelier-01", "GPU-1", "bf16", 101)


def test_it_shows_engines_and_workers(alice: User, worker: Worker) -> None:
    submit(alice)
    Worker.start("atelier-01", "GPU-2", "fp4", 102).now(Worker.State.WAITING, note="Waits for memory.")
    said = queue()
    assert "fp4: run, 0 waiting of 1000" in said
    assert "  atelier-01/GPU-2/fp4: waiting. Waits for memory." in said
    assert "bf16: run, 1 waiting of 1000" in said
    assert "  atelier-01/GPU-1/bf16: idle" in said


def test_a_worker_that_fell_silent_is_named_so(worker: Worker) -> None:
    Worker.objects.update(heartbeat="2026-01-01T00:00Z")
    assert "atelier-01/GPU-1/bf16: no sign of life" in queue()


def test_it_pauses_and_resumes_one_worker(worker: Worker) -> None:
    assert "atelier-01/GPU-1/bf16: idle, drain. Drained" in queue("drain", "atelier-01/GPU-1/bf16")
    worker.refresh_from_db()
    assert worker.mode == "drain"
    queue("resume", "atelier-01/GPU-1/bf16")
    worker.refresh_from_db()
    assert (worker.mode, worker.note) == ("run", "")


def test_resume_without_a_name_resumes_engines_and_workers(worker: Worker) -> None:
    queue("pause")
    queue("pause", str(worker))
    queue("resume")
    worker.refresh_from_db()
    assert worker.mode == "run"
    assert set(Pool.objects.values_list("mode", flat=True)) == {"run"}


def test_it_pauses_an_engine_or_all(worker: Worker) -> None:
    assert "fp4: pause" in queue("pause", "fp4")
    assert Pool.of("bf16").mode == "run"
    queue("pause")
    assert set(Pool.objects.values_list("mode", flat=True)) == {"pause"}
    worker.refresh_from_db()
    assert worker.mode == "run"


def test_what_it_does_not_know_is_named(worker: Worker) -> None:
    with pytest.raises(
        CommandError, match=r"There is no int4\. There are: fp4, bf16, atelier-01/GPU-1/bf16\."
    ):
        queue("pause", "int4")
