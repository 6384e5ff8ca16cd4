"""What a worker process does: claim a job, draw its pictures, store them, end the job. Then again.

django-q2 starts the process and calls ``run_next_job`` in it at every wake-up.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.util import Finalize
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections, connection
from django.db.models import Prefetch, prefetch_related_objects
from django.db.models.functions import Now

from accounts.models import UsageEntry
from generation import media, pictures, trials
from generation.models import Job, JobLora
from generation.watch import StepClock
from generation.watch import worker as watched
from generation.words import duration
from gpu import devices, engines, slots
from gpu.engines import (
    Cancelled,
    DeviceFailed,
    Drawn,
    Engine,
    EngineConfig,
    EngineError,
    ImageSpec,
    LoraFailed,
    LoraRef,
    ModelFailed,
    backends,
)
from gpu.model_card import ModelCard
from gpu.models import Mode, Worker
from loras.models import Admission, Lora

log = logging.getLogger(__name__)

# A step is recorded when the last record is so old: each one is a commit to disk.
REPORT_SECONDS = 0.2
# How often a worker that cannot load its model looks again whether it can.
WAIT_SECONDS = 5.0
HEARTBEAT_SECONDS = 5.0
# How long a job's last pictures wait at most until the next job is drawn, which takes 5 to 15 ms.
NEXT_SECONDS = 0.05
UNKNOWN = "The worker met an error it does not know. Try again; its log has the details."
# A device that failed so often within so long is not trusted with more jobs.
FATAL_ERRORS = 3
FATAL_WITHIN = timedelta(minutes=10)

_process: "WorkerProcess | None" = None
_slot: "IO[str] | None" = None
T = TypeVar("T")


class DiskFull(EngineError):
    code = "disk_full"


class WorkerProcess:
    """This process on its slot: its row, its engine (the model stays loaded), and its heartbeat."""

    def __init__(self, engine: str) -> None:
        self.card = ModelCard.of(settings.FLUXSITE_MODEL)
        self.engine_name = engine
        self.engine: Engine | None = None
        self.row = Worker.start(
            socket.gethostname(), settings.FLUXSITE_DEVICE, engine, os.getpid(), **self._device_facts()
        )
        # Jobs in hand: one that is drawn, and perhaps one before it that is stored still.
        self.held: set[tuple[UUID, int]] = set()
        self.saver: Executor = ThreadPoolExecutor(1, "saver")
        self.saving = self.saver.submit(lambda: None)
        self.goes_on = threading.Event()
        self.state = Worker.State.IDLE
        # The process before may have waited when it ended, and have left a note of it.
        self.waits = self.row.mode == Mode.RUN
        self.rest = 0.0
        self.more = False
        self.steps = StepClock()
        # Sets of LoRAs drawn lately: they are in memory still.
        self.warm: deque[str] = deque(maxlen=settings.FLUXSITE_LORAS_IN_MEMORY)
        if freed := Job.objects.release_all_of(self.row):
            log.warning("%d job was in hand when the process before ended; it starts again", freed)

    # The heartbeat ------------------------------------------------------------------------------------

    def beat_for_ever(self) -> None:
        """The heartbeat, in a thread of its own: loading a model takes minutes."""
        while True:
            time.sleep(min(settings.FLUXSITE_LEASE_SECONDS / 3, HEARTBEAT_SECONDS))
            try:
                self.beat()
            except DatabaseError:
                log.exception("Heartbeat failed; trying again")
                connection.close()
            finally:
                close_old_connections()

    def beat(self) -> None:
        """Say that the process lives and what it holds, and renew the lease of the job in hand."""
        for pk, attempt in list(self.held):
            Job.objects.keep(pk, attempt)
        self.row.now(**self._device_facts(), **self._held_facts())
        if self.waits and not self.cannot_start():
            self._begins(Worker.State.IDLE)

    @staticmethod
    def _device_facts() -> dict[str, Any]:
        try:
            device = devices.find(settings.FLUXSITE_DEVICE)
        except LookupError:
            return {}
        return {"device_name": device.name, "memory_total": device.total, "memory_free": device.free}

    def _held_facts(self) -> dict[str, Any]:
        held = self.engine.held() if self.engine and self.is_loaded else engines.Held()
        return {"memory_model": held.model, "memory_loras": held.loras, "loras": sorted(held.sha256)}

    # One wake-up --------------------------------------------------------------------------------------

    def run_next_job(self) -> str:
        """Draw the next job; returns what became of it, for django-q2's log.

        Afterwards ``rest`` is for how long no wake-up is wanted, ``more`` whether there may be more to do.
        """
        self.rest, self.more = 0.0, False
        if reason := self.cannot_start():
            log.warning("%s", reason)
            self.waits, self.rest = True, WAIT_SECONDS
            self.says(Worker.State.WAITING, note=reason)
            return reason
        stage = Job.Stage.DRAWING if self.is_loaded else Job.Stage.LOADING
        job = Job.objects.claim(self.engine_name, self.row, list(self.warm), stage)
        if job is None:
            self.goes_on.set()
            return self._nothing_to_do()
        self.more = True
        if self.state != Worker.State(stage):
            self._begins(Worker.State(stage))
        return self._run(job)

    def says(self, state: Worker.State, **facts: Any) -> None:
        """Show it on the Workers page."""
        self.row.now(state, **facts)
        self.state = state

    def _nothing_to_do(self) -> str:
        if Worker.wanted(self.row.host, self.row.device, self.engine_name) == Mode.DRAIN:
            self.drain()
            return "drained"
        self._begins(Worker.State.IDLE)
        return "nothing to do"

    def _run(self, job: Job) -> str:
        self.held.add((job.pk, job.attempt))
        outcome = Attempt(job, self).run()
        self.warm.append(job.lora_set)
        return f"{job.pk} attempt {job.attempt}: {outcome}"

    @property
    def is_loaded(self) -> bool:
        return self.engine is not None and self.engine.loaded

    def save(self, work: Callable[[], None]) -> None:
        """Do it beside the drawing, one after the other."""
        self.saving = self.saver.submit(work)

    def save_when_it_goes_on(self, work: Callable[[], None]) -> None:
        """The same for a job's last pictures: the device waits for the next job, and they do not."""

        def wait_and_work() -> None:
            self.goes_on.wait(NEXT_SECONDS)
            work()

        self.goes_on.clear()
        self.save(wait_and_work)

    def settle(self) -> None:
        """Wait until everything drawn is stored."""
        self.saver.shutdown()

    def _begins(self, state: Worker.State) -> None:
        """Show that it does something else now."""
        # Its own note of what it waited for goes; one of operators stays.
        facts = {"note": ""} if self.waits else {}
        self.waits = False
        try:
            self.says(state, **facts)
        except DatabaseError:
            log.exception("The worker's state could not be recorded")

    def drain(self) -> None:
        """Give the memory back; the next job loads the model again."""
        if self.engine:
            self.engine.unload()
        self.engine = None
        watched.holds_model(False)
        self.says(Worker.State.IDLE, model="", **self._device_facts(), **self._held_facts())

    def cannot_start(self) -> str:
        """Why no job should be taken now though the next one may be welcome; empty if one should."""
        floor = settings.FLUXSITE_DISK_FLOOR_MB * 10**6
        free = media.free_bytes()
        if free is not None and free < floor:
            return f"Waits for disk space: {free / 1e9:.1f} GB are free, {floor / 1e9:.1f} GB are needed."
        if self.is_loaded:
            return ""
        try:
            device, host = devices.find(settings.FLUXSITE_DEVICE), devices.find("cpu")
            return backends.waits_for_memory(self.engine_name, self._config(), device, host)
        except (LookupError, EngineError):
            return ""  # the job says it, with more words

    def ready_engine(self) -> Engine:
        """The engine, made at the first job: this is where torch is imported."""
        if self.engine is None:
            try:
                device, host = devices.find(settings.FLUXSITE_DEVICE), devices.find("cpu")
            except LookupError as error:
                raise ModelFailed(str(error)) from error
            self.engine = engines.create(self.engine_name, self._config(), device, host)
        return self.engine

    def _config(self) -> EngineConfig:
        return EngineConfig(
            model=settings.FLUXSITE_MODEL,
            max_sequence_length=self.card.max_sequence_length,
            adapters=settings.FLUXSITE_LORAS_IN_MEMORY,
            adapter_bytes=settings.FLUXSITE_LORAS_IN_MEMORY_MB * 1024**2,
            nunchaku_transformer=settings.FLUXSITE_NUNCHAKU_TRANSFORMER,
            nunchaku_t5=settings.FLUXSITE_NUNCHAKU_T5,
        )

    def pause_if_it_fails_often(self, error: DeviceFailed) -> None:
        failures = UsageEntry.objects.filter(
            worker=str(self.row),
            outcome=UsageEntry.Outcome.DEVICE_FAILED,
            created_at__gt=Now() - FATAL_WITHIN,
        )
        if failures.count() >= FATAL_ERRORS:
            within = duration(FATAL_WITHIN.total_seconds())
            note = f"Paused: the device failed {FATAL_ERRORS} times within {within}, at last with: {error}"
            self.row.set_mode(Mode.PAUSE, note)


class Attempt:
    """One worker's try at one job. Everything it writes is fenced by the number of the attempt.

    Pictures are stored, and the job is ended, in the process's saver thread: the device draws on meanwhile.
    """

    def __init__(self, job: Job, process: WorkerProcess) -> None:
        self.job = job
        self.process = process
        self.seconds = {"load_seconds": 0.0, "draw_seconds": 0.0, "save_seconds": 0.0}
        self.notice = ""
        self.step = 0
        self.reported_at = time.monotonic()  # the claim is a report
        self.save_error: Exception | None = None

    def run(self) -> str:
        """Draw what is missing; what was drawn is stored soon after. Returns how the drawing ended.

        Raises DeviceFailed, with the job free for another worker: this process must end.
        """
        error: Exception | None = None
        try:
            self._draw_missing()
        except DeviceFailed as failed:
            self._release(failed)
            raise
        except Exception as raised:
            error = raised
        finally:
            self.process.steps.stop()
        self.process.save(lambda: self._end(error))
        return type(error).__name__ if error else "drawn"

    # In the worker's thread ---------------------------------------------------------------------------

    def _draw_missing(self) -> None:
        engine = self._loaded_engine()
        stored = set(self.job.images.values_list("index", flat=True)) if self.job.attempt > 1 else set()
        missing = [index for index in range(self.job.count) if index not in stored]
        size = engine.batch_size(self.job.width, self.job.height)
        for start in range(0, len(missing), size):
            self._draw(engine, missing[start : start + size], last=start + size >= len(missing))

    def _loaded_engine(self) -> Engine:
        process, was_loaded = self.process, self.process.is_loaded
        with self._timed("load_seconds"):
            engine = process.ready_engine()
            engine.load()
        if not was_loaded:
            watched.holds_model(True)
            process.says(
                Worker.State.DRAWING,
                model=process.card.name,
                load_seconds=self.seconds["load_seconds"],
            )
        return engine

    def _draw(self, engine: Engine, indexes: list[int], last: bool) -> None:
        """Draw pictures together, and have them stored."""
        if self.save_error:
            raise self.save_error
        self.step = 0
        place = {"stage": Job.Stage.DRAWING, "picture": indexes[0], "together": len(indexes)}
        if any(getattr(self.job, name) != value for name, value in place.items()):
            insist(lambda: self._report(**place, step=0))
        spec = self._spec(tuple(self.job.seeds[index] for index in indexes))
        pixels = spec.width * spec.height * len(spec.seeds)
        self.process.steps.start()
        self.process.goes_on.set()
        with self._timed("draw_seconds"):
            drawn = engine.generate(spec, lambda step: self._step_done(step, pixels))
        self.process.steps.stop()
        self.notice = _unread(drawn.unread)
        wait([self.process.saving])  # so that pictures do not pile up where storing is slower than drawing
        save = self.process.save_when_it_goes_on if last else self.process.save
        save(lambda: self._save(engine.backend, indexes, spec, drawn, last))

    def _spec(self, seeds: tuple[int, ...]) -> ImageSpec:
        job = self.job
        return ImageSpec(job.prompt, job.width, job.height, job.steps, seeds, self._loras())

    def _loras(self) -> tuple[LoraRef, ...]:
        """The job's LoRAs. Raises LoraFailed where its owner may not use one of them any more."""
        if not self.job.lora_set:
            return ()
        # Kept with the job, for its pictures' files: the database may be away when those are written.
        prefetch_related_objects([self.job], Prefetch("job_loras", JobLora.objects.select_related("lora")))
        chosen = list(self.job.job_loras.all())
        loras = tuple(_lora_ref(one) for one in chosen)
        if self.job.owner:
            usable = Lora.objects.usable_by(self.job.owner, self.process.card.family)
            allowed = set(usable.filter(pk__in=[one.lora_id for one in chosen]).values_list("pk", flat=True))
            for one in chosen:
                if one.lora_id not in allowed:
                    raise LoraFailed(f"You may not use {one.name} any more. Take it out, or ask its owner.")
        return loras

    def _step_done(self, step: int, pixels: int) -> None:
        """Look at each step whether to go on; record the step if the last record is old."""
        self.process.steps.step(pixels)
        self.step = step
        try:
            if self._report_is_old():
                self._report(step=step)
            elif not Job.objects.goes_on(self.job.pk, self.job.attempt):
                raise Cancelled
        except (OperationalError, InterfaceError):
            # The picture is worth more than the note of its step. The fence decides at the end.
            log.warning("The database is away; drawing goes on", exc_info=True)
            connection.close()

    def _report_is_old(self) -> bool:
        return time.monotonic() - self.reported_at > REPORT_SECONDS

    def _report(self, **progress: Any) -> None:
        """Record progress. Raises Cancelled when the owner cancelled or another worker has the job."""
        self.reported_at = time.monotonic()
        if not Job.objects.renew(self.job.pk, self.job.attempt, **progress):
            raise Cancelled

    def _release(self, error: DeviceFailed) -> None:
        self.process.held.discard((self.job.pk, self.job.attempt))
        try:
            Job.objects.release(self.job, UsageEntry.Outcome.DEVICE_FAILED, self.seconds["draw_seconds"])
            self.process.pause_if_it_fails_often(error)
        except (DatabaseError, InterfaceError):
            # The process must end all the same; the next one, or the end of the lease, frees the job.
            log.exception("The job could not be freed")

    # In the saver thread ------------------------------------------------------------------------------

    def _save(self, backend: str, indexes: list[int], spec: ImageSpec, drawn: Drawn, last: bool) -> None:
        """Store pictures that were drawn together; a failure is told by ``_draw`` or ``_end``."""
        if self.save_error:
            return
        try:
            if last and self._report_is_old():
                insist(lambda: self._report(stage=Job.Stage.SAVING, step=spec.steps))
            with self._timed("save_seconds"):
                for index, seed, image in zip(indexes, spec.seeds, drawn.images, strict=True):
                    self._store(
                        index, seed, image, model=self.process.card.name, backend=backend,
                        batch_size=drawn.batch_size, vae_tiling=drawn.vae_tiling,
                    )  # fmt: skip
        except Exception as error:
            self.save_error = error

    def _store(self, index: int, seed: int, image: Any, **drawn: Any) -> None:
        try:
            picture = pictures.write(self.job, index, seed, image, **drawn)
        except OSError as error:
            log.exception("A picture of job %s could not be stored", self.job.pk)
            raise DiskFull(
                f"The picture could not be stored: {error.strerror or error}. "
                "Tell who runs the studio, and ask again when there is room."
            ) from error
        insist(lambda: pictures.record(picture))

    def _end(self, error: Exception | None) -> None:
        """End the job as it deserves, unless another attempt has it."""
        error = self.save_error or error
        try:
            if error is None:
                self._finish(Job.State.SUCCEEDED)
            elif isinstance(error, Cancelled):
                self._finish(Job.State.CANCELLED)
            elif isinstance(error, EngineError):
                log.warning("Job %s failed: %s", self.job.pk, error)
                self._finish(Job.State.FAILED, error_code=error.code, error=str(error))
            elif isinstance(error, DatabaseError):
                log.error("Nothing can be recorded; the lease will run out", exc_info=error)
            else:
                log.error("Job %s failed", self.job.pk, exc_info=error)
                self._finish(Job.State.FAILED, error_code="internal", error=UNKNOWN)
        except Exception:
            log.exception("The end of job %s could not be recorded; it will be tried again", self.job.pk)
        finally:
            # From here on the heartbeat does not keep it.
            self.process.held.discard((self.job.pk, self.job.attempt))
        if self.job.trial:
            self._conclude(self.job.trial)

    @staticmethod
    def _conclude(trial: Admission) -> None:
        try:
            trials.conclude(trial)
            trials.go_on()
        except Exception:
            log.exception("What the trial %s has shown could not be entered; the sweeper will", trial)

    def _finish(self, state: Job.State, **facts: Any) -> None:
        facts |= {"notice": self.notice, "step": self.step, **self.seconds}
        facts["gpu_seconds"] = self.seconds["draw_seconds"]
        if not insist(lambda: Job.objects.finish(self.job, state, **facts)):
            log.warning("Job %s was taken away; this attempt does not count", self.job.pk)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - start


def insist(write: Callable[[], T]) -> T:
    """Do it again when the database was away, for as long as a lease: a drawn picture is worth the wait."""
    until = time.monotonic() + settings.FLUXSITE_LEASE_SECONDS
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError):
            if time.monotonic() > until:
                raise
            log.warning("The database is away; trying again", exc_info=True)
            connection.close()
            time.sleep(0.5)


def _lora_ref(chosen: JobLora) -> LoraRef:
    """The file of a job's LoRA. Raises LoraFailed when the library has it no more."""
    path = Path(chosen.lora.file.path) if chosen.lora else None
    if path is None or not path.is_file():
        raise LoraFailed(
            f"{chosen.name} is no longer in the library. Take it out, or ask for it to be uploaded again."
        )
    modules = chosen.lora.facts.get("changes") if chosen.lora else None
    return LoraRef(chosen.name, path, chosen.sha256, chosen.weight, modules)


def _unread(words: str) -> str:
    return f"The prompt is longer than the model reads. Not read: “{words}”" if words else ""


def start_worker(engine: str) -> None:
    """Make this process the worker of its slot; called once, in the worker that django-q2 has just forked."""
    global _process, _slot
    _slot = slots.take(settings.VAR_DIR / "slots", settings.FLUXSITE_DEVICE, engine)
    _process = WorkerProcess(engine)
    threading.Thread(target=_process.beat_for_ever, daemon=True, name="heartbeat").start()
    Finalize(_process, _stopped, args=(_process,), exitpriority=1)
    watched.started()


def _stopped(process: WorkerProcess) -> None:
    """When django-q2 ends the process in good order."""
    process.settle()
    process.says(Worker.State.STOPPED)


def run_next_job(engine: str) -> str:
    """Claim the next job of ``engine`` and run it; returns what became of it, for django-q2's log."""
    if _process is None:
        raise RuntimeError("start_worker was not called in this process")
    watched.busy()
    try:
        return _process.run_next_job()
    except DeviceFailed as error:
        # The driver's state is lost with the process, and only with it; no exit handler may touch it again.
        log.critical("%s This worker ends; another takes its job.", error)
        _process.settle()
        logging.shutdown()
        os._exit(1)
    finally:
        watched.ready(_process.rest, _process.more)
