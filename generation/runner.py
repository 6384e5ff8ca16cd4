"""What a worker process does: claim a job, draw its pictures, store them, end the job. Then again.

django-q2 starts the process and calls ``run_next_job`` in it at every wake-up.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, close_old_connections

from generation import broker, pictures
from generation.models import Job, JobLora
from gpu import devices, engines, slots
from gpu.engines import (
    Cancelled,
    DeviceFailed,
    Engine,
    EngineConfig,
    EngineError,
    ImageSpec,
    LoraFailed,
    LoraRef,
    ModelFailed,
)
from gpu.model_card import ModelCard
from gpu.models import Worker

log = logging.getLogger(__name__)

_process: "WorkerProcess | None" = None
_slot: "IO[str] | None" = None


class WorkerProcess:
    """This process on its slot: its row, its engine (the model stays loaded), and its heartbeat."""

    def __init__(self, engine: str) -> None:
        self.card = ModelCard.of(settings.FLUXSITE_MODEL)
        self.row = Worker.start(socket.gethostname(), settings.FLUXSITE_DEVICE, engine, os.getpid())
        self.engine_name = engine
        self.engine: Engine | None = None
        self.held: tuple[UUID, int] | None = None

    def beat_for_ever(self) -> None:
        """The heartbeat, in a thread of its own: loading a model takes minutes."""
        while True:
            time.sleep(settings.FLUXSITE_LEASE_SECONDS / 3)
            try:
                self.beat()
            except DatabaseError:
                log.exception("Heartbeat failed; trying again")
            finally:
                close_old_connections()

    def beat(self) -> None:
        """Say that the process lives, and renew the lease of the job in hand."""
        self.row.beat()
        if held := self.held:
            Job.objects.keep(*held)

    def run_next_job(self) -> str:
        job = Job.objects.claim(self.engine_name, self.row)
        if job is None:
            return "nothing to do"
        self.held = job.pk, job.attempt
        try:
            outcome = Attempt(job, self).run()
        finally:
            self.held = None
            self.row.now(Worker.State.IDLE)
        return f"{job.pk} attempt {job.attempt}: {outcome}"

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


class Attempt:
    """One worker's try at one job. Everything it writes is fenced by the number of the attempt."""

    def __init__(self, job: Job, process: WorkerProcess) -> None:
        self.job = job
        self.process = process
        self.seconds = {"load_seconds": 0.0, "draw_seconds": 0.0, "save_seconds": 0.0}
        self.notice = ""

    def run(self) -> str:
        """Draw what is missing and end the job; returns the state it ended in, or "taken away".

        Raises DeviceFailed, with the job free for another worker: this process must end.
        """
        try:
            self._draw_missing()
            ended = self._finish(Job.State.SUCCEEDED)
        except Cancelled:
            ended = self._finish(Job.State.CANCELLED)
        except DeviceFailed:
            Job.objects.release(self.job.pk, self.job.attempt)
            raise
        except EngineError as error:
            log.warning("Job %s failed: %s", self.job.pk, error)
            ended = self._finish(Job.State.FAILED, error_code=error.code, error=str(error))
        except DatabaseError:
            raise  # nothing can be recorded now: the lease runs out and the job is tried again
        except Exception:
            log.exception("Job %s failed", self.job.pk)
            ended = self._finish(
                Job.State.FAILED,
                error_code="internal",
                error="The worker met an error it does not know. Try again; its log has the details.",
            )
        return ended

    def _finish(self, state: Job.State, **facts: Any) -> str:
        facts |= {"notice": self.notice, **self.seconds}
        ours = Job.objects.finish(self.job.pk, self.job.attempt, state, **facts)
        return state if ours else "taken away"

    def _draw_missing(self) -> None:
        engine = self._loaded_engine()
        self.process.row.now(Worker.State.DRAWING, model=self.process.card.name)
        stored = set(self.job.images.values_list("index", flat=True))
        missing = [index for index in range(self.job.count) if index not in stored]
        size = engine.batch_size(self.job.width, self.job.height)
        for start in range(0, len(missing), size):
            self._draw(engine, missing[start : start + size])

    def _loaded_engine(self) -> Engine:
        with self._timed("load_seconds"):
            if self.process.engine is None or not self.process.engine.loaded:
                self._report(stage=Job.Stage.LOADING)
                self.process.row.now(Worker.State.LOADING)
            engine = self.process.ready_engine()
            engine.load()
        return engine

    def _draw(self, engine: Engine, indexes: list[int]) -> None:
        """Draw pictures together and store them."""
        self._report(stage=Job.Stage.DRAWING, picture=indexes[0], together=len(indexes), step=0)
        spec = self._spec(tuple(self.job.seeds[index] for index in indexes))
        with self._timed("draw_seconds"):
            drawn = engine.generate(spec, lambda step: self._report(step=step))
        self.notice = _unread(drawn.unread)
        self._report(stage=Job.Stage.SAVING)
        with self._timed("save_seconds"):
            for index, seed, image in zip(indexes, spec.seeds, drawn.images, strict=True):
                pictures.store(
                    self.job, index, seed, image, model=self.process.card.name, backend=engine.backend,
                    batch_size=drawn.batch_size, vae_tiling=drawn.vae_tiling,
                )  # fmt: skip

    def _spec(self, seeds: tuple[int, ...]) -> ImageSpec:
        job = self.job
        loras = tuple(_lora_ref(chosen) for chosen in job.job_loras.select_related("lora"))
        return ImageSpec(job.prompt, job.width, job.height, job.steps, seeds, loras)

    def _report(self, **progress: Any) -> None:
        """Record progress. Raises Cancelled when the owner cancelled or another worker has the job."""
        if not Job.objects.renew(self.job.pk, self.job.attempt, **progress):
            raise Cancelled

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - start


def _lora_ref(chosen: JobLora) -> LoraRef:
    """The file of a job's LoRA. Raises LoraFailed when the library has it no more."""
    path = Path(chosen.lora.file.path) if chosen.lora else None
    if path is None or not path.is_file():
        raise LoraFailed(
            f"{chosen.name} is no longer in the library. Take it out, or ask for it to be uploaded again."
        )
    return LoraRef(chosen.name, path, chosen.sha256, chosen.weight)


def _unread(words: str) -> str:
    return f"The prompt is longer than the model reads. Not read: “{words}”" if words else ""


def start_worker(engine: str) -> None:
    """Make this process the worker of its slot; called once, in the worker that django-q2 has just forked."""
    global _process, _slot
    _slot = slots.take(settings.VAR_DIR / "slots", settings.FLUXSITE_DEVICE, engine)
    _process = WorkerProcess(engine)
    threading.Thread(target=_process.beat_for_ever, daemon=True, name="heartbeat").start()
    broker.worker_state.value = broker.IDLE


def run_next_job(engine: str) -> str:
    """Claim the next job of ``engine`` and run it; returns what became of it, for django-q2's log."""
    if _process is None:
        raise RuntimeError("start_worker was not called in this process")
    broker.worker_state.value = broker.BUSY
    try:
        return _process.run_next_job()
    except DeviceFailed as error:
        # The driver's state is lost with the process, and only with it; no exit handler may touch it again.
        log.critical("%s This worker ends; another takes its job.", error)
        logging.shutdown()
        os._exit(1)
    finally:
        broker.worker_state.value = broker.IDLE
