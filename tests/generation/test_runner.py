"""The worker's loop, with the real demo model, and with an engine that breaks on purpose."""

import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import PIL.Image
import pytest
from django.db import InterfaceError, OperationalError, connection
from django.db.models.functions import Now
from structlog.contextvars import bound_contextvars

from accounts.models import User
from files.local import LocalStorage
from files.storage import Away
from generation import attempt, operations, pictures, png_metadata, runner
from generation.models import Image, Job, lora_set
from generation.queue import JobQuerySet
from generation.runner import WorkerProcess
from gpu import devices
from gpu.engines import DeviceFailed, Drawn, Held, ImageSpec, InvalidOutput, OnStep
from gpu.models import Mode, Worker
from loras import library
from loras.models import Lora
from tests.conftest import asked, submit
from tests.e2e.pixels import pixels
from tests.operations.kept import Kept


class FaultyEngine:
    """Draws grey, and does ``fault`` after step 2 of the picture with ``seed``."""

    name: ClassVar[str] = "faulty"
    backend = "a test"
    loaded = True

    def __init__(self, seed: int, fault: Any, batch: int = 1, unread: str = "") -> None:
        self.seed, self.fault, self.batch, self.unread = seed, fault, batch, unread

    def load(self) -> None:
        """It is always loaded."""

    def unload(self) -> None:
        """There is nothing to unload."""

    def held(self) -> Held:
        return Held()

    def batch_size(self, width: int, height: int) -> int:
        return self.batch

    def generate(self, spec: ImageSpec, on_step: OnStep) -> Drawn:
        for step in range(1, spec.steps + 1):
            on_step(step)
            if step == 2 and self.seed in spec.seeds:
                self.fault()
        grey = PIL.Image.new("RGB", (spec.width, spec.height), "grey")
        return Drawn((grey,) * len(spec.seeds), len(spec.seeds), unread=self.unread)


class Immediately(Executor):
    """Does it in the same thread: the test's transaction is that thread's."""

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(work(*args, **kwargs))
        return done


def new_process() -> WorkerProcess:
    process = WorkerProcess("bf16")
    process.settle()
    process.saver = Immediately()
    return process


@pytest.fixture
def process(db: None) -> WorkerProcess:
    return new_process()


def broken(process: WorkerProcess, fault: Any, seed: int = 1, **engine: Any) -> WorkerProcess:
    process.engine = FaultyEngine(seed, fault, **engine)
    return process


def fail(error: Exception) -> Any:
    def fault() -> None:
        raise error

    return fault


def test_it_draws_a_job_with_the_demo_model(alice: User, process: WorkerProcess, media: Path) -> None:
    job = submit(alice, seed=7, count=2)
    assert process.run_next_job() == f"{job.pk} attempt 1: drawn"
    job.refresh_from_db()
    assert (job.state, job.step, job.picture, job.stage, job.error) == ("succeeded", 4, 1, "", "")
    assert job.finished_at is not None
    assert min(job.load_seconds or 0, job.draw_seconds or 0, job.save_seconds or 0) > 0
    first, second = job.images.order_by("index")
    assert (first.seed, second.seed, first.model) == (7, 8, "fluxsite demo")
    assert "diffusers" in first.backend
    assert (media / str(first.file)).is_file()


def test_the_model_stays_loaded(alice: User, process: WorkerProcess) -> None:
    submit(alice)
    process.run_next_job()
    wants_more = [process.more]
    process.run_next_job()
    wants_more.append(process.more)
    assert wants_more == [True, False]
    worker = Worker.objects.get()
    assert (worker.state, worker.model) == ("idle", "fluxsite demo")
    engine = process.engine
    submit(alice)
    process.run_next_job()
    assert process.engine is engine


@pytest.mark.parametrize(("seconds", "states"), [(0, ["succeeded", "queued"]), (60, ["succeeded"] * 2)])
def test_a_wake_up_is_for_one_job_and_the_short_ones_after_it(
    alice: User, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch, seconds: float, states: list[str]
) -> None:
    monkeypatch.setattr(runner, "WAKE_UP_SECONDS", seconds)
    jobs = [submit(alice) for _ in range(2)]
    broken(process, fail(AssertionError("no fault")), seed=99).run_next_jobs()
    assert [Job.objects.get(pk=job.pk).state for job in jobs] == states


def test_without_a_job_it_does_nothing(process: WorkerProcess) -> None:
    assert process.run_next_job() == "nothing to do"


def test_an_engine_error_fails_the_job_with_its_sentence(alice: User, process: WorkerProcess) -> None:
    job = submit(alice, seed=1)
    broken(process, fail(InvalidOutput("Not numbers. Try without LoRAs."))).run_next_job()
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "invalid_output")
    assert job.error == "Not numbers. Try without LoRAs."


def test_an_unknown_error_fails_the_job_safely_and_the_worker_goes_on(
    alice: User, process: WorkerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    job, next_job = submit(alice, seed=1), submit(alice, seed=5)
    broken(process, fail(ZeroDivisionError("secret detail"))).run_next_job()
    process.run_next_job()
    job.refresh_from_db()
    next_job.refresh_from_db()
    assert (job.state, job.error_code, next_job.state) == ("failed", "internal", "succeeded")
    assert "secret" not in job.error
    assert "secret detail" in caplog.text


def test_a_cancelled_job_stops_before_the_next_step(alice: User, process: WorkerProcess) -> None:
    job = submit(alice, seed=1)
    broken(process, job.cancel).run_next_job()
    job.refresh_from_db()
    assert (job.state, job.step, job.images.count()) == ("cancelled", 3, 0)


def test_pictures_stored_before_a_fault_are_kept(alice: User, process: WorkerProcess) -> None:
    job = submit(alice, seed=1, count=3)
    broken(process, fail(InvalidOutput("no")), seed=2).run_next_job()
    assert [image.index for image in job.images.all()] == [0]


def test_a_second_attempt_draws_only_what_is_missing(alice: User, process: WorkerProcess) -> None:
    job = submit(alice, seed=1, count=3)

    def die() -> None:
        Job.objects.update(lease_until=Now() - timedelta(seconds=1))
        raise SystemExit

    with pytest.raises(SystemExit):
        broken(process, die, seed=2).run_next_job()
    kept = job.images.get()
    broken(process, fail(AssertionError("drawn again")), seed=1).run_next_job()
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert [image.seed for image in job.images.order_by("index")] == [1, 2, 3]
    assert job.images.get(index=0) == kept


def test_pictures_are_drawn_together_where_the_engine_says_so(alice: User, process: WorkerProcess) -> None:
    job = submit(alice, seed=1, count=4)
    broken(process, fail(AssertionError("no fault")), seed=99, batch=3).run_next_job()
    assert [image.batch_size for image in job.images.order_by("index")] == [3, 3, 3, 1]
    assert [image.seed for image in job.images.order_by("index")] == [1, 2, 3, 4]


def test_a_prompt_that_was_not_read_whole_is_told(alice: User, process: WorkerProcess) -> None:
    job = submit(alice)
    broken(process, fail(AssertionError("no fault")), seed=99, unread="and a fox").run_next_job()
    job.refresh_from_db()
    assert job.notice == "The prompt is longer than the model reads. Not read: “and a fox”"


def test_a_device_that_fails_ends_the_process_and_frees_the_job(
    alice: User, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(alice, seed=1)
    ends: list[int] = []
    monkeypatch.setattr(runner, "_process", broken(process, fail(DeviceFailed("The device failed: Xid 79"))))
    monkeypatch.setattr("os._exit", ends.append)
    monkeypatch.setattr("logging.shutdown", lambda: None)
    runner.run_jobs("bf16")
    job.refresh_from_db()
    assert (ends, job.state, job.attempt) == ([1], "running", 1)
    again = Job.objects.claim("bf16", Worker.start("other", "cpu", "bf16", 1))
    assert again is not None
    assert (again.pk, again.attempt) == (job.pk, 2)


def test_a_job_that_breaks_every_device_fails(alice: User, process: WorkerProcess) -> None:
    """G7: each try counts."""
    job = submit(alice, seed=1)
    for _ in range(3):
        with pytest.raises(DeviceFailed):
            broken(process, fail(DeviceFailed("The device failed"))).run_next_job()
    # Three in ten minutes pause the slot; the sweep ends the job.
    assert process.run_next_job() == "nothing to do"
    assert Job.objects.end_abandoned("bf16") == 1
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "worker_died")


def test_a_late_worker_stores_nothing(alice: User, process: WorkerProcess) -> None:
    job = submit(alice, seed=1)

    def freeze() -> None:
        Job.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert Job.objects.claim("bf16", Worker.start("other", "cpu", "bf16", 1))

    assert broken(process, freeze).run_next_job() == f"{job.pk} attempt 1: Cancelled"
    job.refresh_from_db()
    assert (job.state, job.attempt, Image.objects.count()) == ("running", 2, 0)


def test_the_heartbeat_renews_the_lease_of_the_job_in_hand(alice: User, process: WorkerProcess) -> None:
    job = submit(alice, seed=1)

    def beat() -> None:
        Job.objects.update(lease_until=Now() - timedelta(seconds=1))
        process.beat()
        assert not Job.objects.abandoned("bf16").exists()

    broken(process, beat).run_next_job()
    job.refresh_from_db()
    assert job.state == "succeeded"


def test_the_heartbeat_tells_how_the_workers_own_device_is(
    process: WorkerProcess, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    row, cpu = Worker.objects.get(), devices.cpu()
    assert (row.utilisation, row.celsius) == (None, None)
    # The host has another GPU, and more in it than ours.
    gpus = [
        replace(cpu, id=name, utilisation=busy, celsius=61) for name, busy in (("GPU-0", 1.0), ("GPU-1", 0.5))
    ]
    monkeypatch.setattr(devices, "all_devices", lambda: [*gpus, cpu])
    settings.FLUXSITE_DEVICE = "GPU-1"
    process.beat()
    row.refresh_from_db()
    assert (row.utilisation, row.celsius) == (0.5, 61)
    # It fell off the bus: the process lives, and what it read last is not how it is.
    monkeypatch.setattr(devices, "all_devices", lambda: [cpu])
    process.beat()
    row.refresh_from_db()
    assert (row.utilisation, row.celsius) == (None, None)


def test_a_worker_that_stops_leaves_no_reading(process: WorkerProcess) -> None:
    process.row.now(utilisation=0.5, celsius=61)
    runner._stopped(process)
    row = Worker.objects.get()
    assert (row.state, row.utilisation, row.celsius) == ("stopped", None, None)


def test_no_error_ends_the_heartbeat(process: WorkerProcess, settings: Any, monkeypatch: Any) -> None:
    class Over(BaseException):
        """The end of the test."""

    errors = [OperationalError("gone"), InterfaceError("closed"), OSError("no such file"), Over()]
    settings.FLUXSITE_LEASE_SECONDS = 0.01

    def failing(device: str) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(devices, "find", failing)
    with pytest.raises(Over), Kept() as kept:
        process.beat_for_ever()
    assert [line["event"] for line in kept.lines] == ["Heartbeat failed; trying again"] * 3


@pytest.fixture
def demo_loras(db: None) -> list[Lora]:
    return library.add_demo_loras()


def test_loras_are_applied_with_their_weights_and_told_by_the_file(
    alice: User, process: WorkerProcess, demo_loras: list[Lora], media: Path
) -> None:
    asked: dict[str, Any] = {"seed": 1, "prompt": "a midnight outlined star on blue"}
    plain = submit(alice, **asked)
    with_loras = submit(alice, **asked, loras=[(lora, 0.8) for lora in demo_loras])
    process.run_next_job()
    process.run_next_job()
    files = [(media / str(job.images.get().file)).read_bytes() for job in (plain, with_loras)]
    assert pixels(files[0]) != pixels(files[1])
    recipe = png_metadata.read(files[1]).recipe
    assert recipe
    assert [(one.sha256, one.weight) for one in recipe.loras] == [(one.sha256, 0.8) for one in demo_loras]
    assert (recipe.model, recipe.demo, recipe.engine) == ("fluxsite demo", True, "bf16")


def test_a_lora_that_is_gone_fails_the_job_with_its_name(
    alice: User, process: WorkerProcess, demo_loras: list[Lora], media: Path
) -> None:
    job = submit(alice, loras=[(demo_loras[0], 1.0)])
    (media / str(demo_loras[0].file)).unlink()
    process.run_next_job()
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "lora")
    assert demo_loras[0].name in job.error


def test_a_model_that_cannot_be_loaded_fails_the_job(
    alice: User, process: WorkerProcess, tmp_path: Path, settings: Any
) -> None:
    settings.FLUXSITE_MODEL = str(tmp_path)
    job = submit(alice)
    process.run_next_job()
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "model")
    assert "could not be loaded" in job.error


# What keeps a worker from taking a job ------------------------------------------------------------------


def test_a_worker_waits_for_memory_that_others_hold_instead_of_failing_jobs(
    alice: User, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(alice)
    cpu = devices.cpu()
    monkeypatch.setattr(devices, "find", lambda name: replace(cpu, free=1_000_000))
    said = process.run_next_job()
    assert said.startswith(f"Waits for memory that other processes hold on {cpu.name}. The model needs ")
    row = Worker.objects.get()
    assert (row.state, row.note, process.rest) == ("waiting", said, runner.WAIT_SECONDS)
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("queued", 0)
    monkeypatch.setattr(devices, "find", lambda name: cpu)
    process.beat()
    row.refresh_from_db()
    assert (row.state, row.note) == ("idle", "")


def test_a_model_that_never_fits_fails_the_job_instead_of_waiting(
    alice: User, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(alice)
    cpu = devices.cpu()
    monkeypatch.setattr(devices, "find", lambda name: replace(cpu, free=1_000_000, total=2_000_000))
    process.run_next_job()
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "model")


def test_a_worker_waits_for_disk_space(
    alice: User, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(alice)
    broken(process, lambda: None)
    monkeypatch.setattr(LocalStorage, "free_bytes", lambda _: 499_000_000)
    assert process.run_next_job() == "Waits for disk space: 0.5 GB are free, 0.5 GB are needed."
    monkeypatch.setattr(LocalStorage, "free_bytes", lambda _: 501_000_000)
    process.run_next_job()
    job.refresh_from_db()
    assert job.state == "succeeded"


def test_a_full_disk_fails_the_job_and_says_so(
    alice: User, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(alice)

    def full(*args: Any, **facts: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write", full)
    broken(process, lambda: None).run_next_job()
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "disk_full")
    assert job.error.startswith("The picture could not be stored: No space left on device.")


def test_a_drained_worker_gives_its_memory_back(alice: User, process: WorkerProcess) -> None:
    submit(alice)
    process.run_next_job()
    process.beat()
    row = Worker.objects.get()
    assert row.model
    assert row.load_seconds
    assert row.memory_model > 10_000_000
    operations.set_mode(row, Mode.DRAIN)
    assert process.run_next_job() == "drained"
    assert process.engine is None
    row.refresh_from_db()
    assert (row.model, row.memory_model, row.state) == ("", 0, "idle")


def test_the_loras_in_memory_are_known(alice: User, process: WorkerProcess) -> None:
    library.add_demo_loras()
    night = Lora.objects.get(slug="night")
    Job.submit(alice, loras=[(night, 1.0)], **asked())
    process.run_next_job()
    process.beat()
    row = Worker.objects.get()
    assert row.loras == [night.sha256]
    assert row.memory_loras > 0
    assert list(process.warm) == [lora_set([night])]


# A database that is away for a moment -------------------------------------------------------------------


def test_drawing_goes_on_while_the_database_is_away(
    alice: User, process: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step cannot be recorded, and the end is recorded at the second try."""
    job = submit(alice, seed=1)
    real = JobQuerySet.finish
    failures: list[int] = []

    def away(*args: Any, **facts: Any) -> bool:
        raise OperationalError("server closed the connection unexpectedly")

    def once_away(self: JobQuerySet, *args: Any, **facts: Any) -> bool:
        if not failures:
            failures.append(1)
            away()
        return real(self, *args, **facts)

    monkeypatch.setattr(connection, "close", lambda: None)  # the test's transaction lives in it
    monkeypatch.setattr(JobQuerySet, "goes_on", away)
    monkeypatch.setattr(JobQuerySet, "finish", once_away)
    broken(process, lambda: None).run_next_job()
    job.refresh_from_db()
    assert (job.state, job.images.count(), failures) == ("succeeded", 1, [1])


@pytest.mark.parametrize(("away_for", "end"), [(1, ("succeeded", "")), (10**6, ("failed", "files_away"))])
def test_a_file_store_that_is_away_for_a_moment_costs_no_job(
    alice: User,
    process: WorkerProcess,
    demo_loras: list[Lora],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    away_for: int,
    end: tuple[str, str],
) -> None:
    settings.FLUXSITE_LEASE_SECONDS = 1
    real, tries = LocalStorage.local, iter(range(away_for))

    def local(self: LocalStorage, name: str, sha256: str) -> Path:
        if next(tries, None) is None:
            return real(self, name, sha256)
        raise Away("The file store does not answer")

    monkeypatch.setattr(connection, "close", lambda: None)  # the test's transaction lives in it
    monkeypatch.setattr(LocalStorage, "local", local)
    job = submit(alice, loras=[(demo_loras[0], 1.0)])
    broken(process, lambda: None).run_next_job()
    job.refresh_from_db()
    assert (job.state, job.error_code) == end


def test_it_does_not_insist_for_longer_than_a_lease(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.FLUXSITE_LEASE_SECONDS = 1
    monkeypatch.setattr(connection, "close", lambda: None)

    def away() -> None:
        raise OperationalError

    with pytest.raises(OperationalError):
        attempt.insist(away)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("tries", [0, 1])
def test_before_a_job_that_may_kill_the_worker_all_others_are_stored(alice: User, tries: int) -> None:
    first, second = submit(alice, seed=1), submit(alice, seed=1)
    Job.objects.filter(pk=second.pk).update(attempt=tries)
    process, stored = WorkerProcess("bf16"), []
    look = lambda: stored.append(Image.objects.filter(job=first).exists())  # noqa: E731
    process.saver.submit(time.sleep, 0.2)  # the disk is slow
    for _ in range(2):
        broken(process, look).run_next_job()
    process.saver.submit(lambda: connection.close())  # its own thread's
    process.settle()
    assert stored == [False, tries > 0]


def test_a_new_process_frees_the_job_of_the_one_before(alice: User, process: WorkerProcess) -> None:
    submit(alice)
    lost = Job.objects.claim("bf16", process.row)
    assert lost
    again = new_process()
    assert broken(again, lambda: None).run_next_job() == f"{lost.pk} attempt 2: drawn"


class DyingEngine(FaultyEngine):
    """Its process dies while it loads."""

    loaded = False

    def load(self) -> None:
        raise SystemExit


def die_while_loading() -> WorkerProcess:
    process = new_process()
    process.engine, process.loads_at = DyingEngine(0, None), 0.0
    with pytest.raises(SystemExit):
        process.run_next_job()
    return process


def test_after_a_death_while_loading_the_next_process_waits_longer_each_time(alice: User) -> None:
    job = submit(alice)
    for seconds in (2, 4, 8, 16):
        die_while_loading()
        again = new_process()
        begun = time.monotonic()
        assert again.run_next_job().endswith("the process before died while it loaded the model.")
        assert again.loads_at - begun == pytest.approx(seconds, abs=1)
        assert Worker.objects.get().state == "waiting"
    job.refresh_from_db()
    assert (job.state, job.attempt, job.deaths) == ("running", 4, 0)


def test_a_slot_whose_processes_die_five_times_while_they_load_is_paused_and_the_job_waits(
    alice: User,
) -> None:
    job = submit(alice)
    for _ in range(5):
        die_while_loading()
    paused = new_process()
    assert paused.run_next_job() == "nothing to do"
    row = Worker.objects.get()
    assert (row.mode, row.failed_starts) == ("pause", 0)
    assert row.note.startswith("Paused: the worker died 5 times in a row while it loaded the model.")
    job.refresh_from_db()
    assert (job.state, job.attempt, job.deaths) == ("running", 5, 0)
    other = Job.objects.claim("bf16", Worker.start("other", "cpu", "bf16", 1))
    assert (other, other and other.attempt) == (job, 6)


def test_a_model_that_was_loaded_ends_the_count(alice: User) -> None:
    submit(alice)
    for _ in range(4):
        die_while_loading()
    process = new_process()
    process.engine, process.loads_at = FaultyEngine(0, None), 0.0
    process.engine.loaded = False
    process.run_next_job()
    assert Worker.objects.get().failed_starts == 0


def test_a_note_of_operators_outlives_the_job_in_hand(alice: User, process: WorkerProcess) -> None:
    def pause() -> None:
        operations.set_mode(Worker.objects.get(), Mode.PAUSE, by="root")

    submit(alice, seed=1)
    broken(process, pause).run_next_job()
    process.run_next_job()
    worker = Worker.objects.get()
    assert (worker.state, worker.mode, worker.note) == ("idle", "pause", "Paused by root")


def test_a_note_of_the_process_before_goes_with_the_next_job(alice: User, db: None) -> None:
    new_process().says(Worker.State.WAITING, note="Waits for disk space")
    submit(alice)
    new_process().run_next_job()
    assert Worker.objects.get().note == ""


def drawn_with(lora: Lora, owner: User, process: WorkerProcess) -> Job:
    job = submit(owner, loras=[(lora, 1.0)])
    process.run_next_job()
    job.refresh_from_db()
    return job


@pytest.mark.parametrize("change", [{"visibility": "private"}, {"hidden": True}, {"state": "refused"}])
def test_a_lora_that_its_owner_took_back_meanwhile_is_not_drawn_with(
    process: WorkerProcess, alice: User, bob: User, change: dict[str, Any]
) -> None:
    (_, lora) = library.add_demo_loras()
    Lora.objects.filter(pk=lora.pk).update(owner=alice)
    job = submit(bob, loras=[(lora, 1.0)])
    Lora.objects.filter(pk=lora.pk).update(**change)
    process.run_next_job()
    job.refresh_from_db()
    assert (job.state, job.error_code) == (Job.State.FAILED, "lora")
    assert job.error == f"You may not use {lora.name} any more. Take it out, or ask its owner."
    assert not job.images.exists()


def test_a_file_that_changed_or_went_fails_the_job_by_the_name_of_its_lora(
    process: WorkerProcess, alice: User
) -> None:
    (_, lora) = library.add_demo_loras()
    path = Path(lora.file.path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert drawn_with(lora, alice, process).error.startswith(
        f"{lora.name} could not be read: its file was changed"
    )
    path.unlink()
    assert drawn_with(lora, alice, process).error.startswith(f"{lora.name} is no longer in the library")
    assert Lora.objects.get(pk=lora.pk).uses == 2


def test_the_log_names_the_job_and_its_owner_and_not_the_prompt(alice: User, process: WorkerProcess) -> None:
    job = submit(alice, seed=1)
    with Kept() as kept:
        broken(process, fail(InvalidOutput(f"I cannot draw “{job.prompt}”."))).run_next_job()
    lines = [line for line in kept.lines if line["logger"] in ("generation.runner", "generation.attempt")]
    assert [line["event"] for line in lines] == [
        "Attempt 1 begins", f"Job {job.pk} failed: I cannot draw “[hidden]”.", f"Job {job.pk}: failed"
    ]  # fmt: skip
    assert all((line["job"], line["user"]) == (str(job.pk), alice.pk) for line in lines)


def test_what_is_said_beside_the_drawing_names_the_job(process: WorkerProcess) -> None:
    process.saver = ThreadPoolExecutor(1)
    with Kept() as kept:
        with bound_contextvars(job="42"):
            process.save(lambda: runner.log.warning("stored"))
        process.settle()
    assert kept.lines[-1]["job"] == "42"
