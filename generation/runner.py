"""What a worker process does: claim a job, try it (``generation.attempt``), and again.

django-q2 starts the process and calls ``run_jobs`` in it at every wake-up.
"""

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextvars import copy_context
from datetime import timedelta
from multiprocessing.util import Finalize
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections
from django.db.models.functions import Now
from structlog.contextvars import bound_contextvars

from accounts.models import UsageEntry
from files import shared_models, storage
from generation.attempt import Attempt
from generation.models import Job
from generation.watch import StepClock
from generation.watch import worker as watched
from generation.words import duration
from gpu import devices, engines, slots
from gpu.engines import (
    DeviceFailed,
    Engine,
    EngineConfig,
    EngineError,
    ModelFailed,
    backends,
)
from gpu.model_card import ModelCard
from gpu.models import Mode, Worker

log = logging.getLogger(__name__)

# How often a worker that cannot load its model looks again whether it can.
WAIT_SECONDS = 5.0
HEARTBEAT_SECONDS = 5.0
# How often a worker that waits looks whether its cluster is told to stop.
STOP_POLL_SECONDS = 0.1
# For how long a worker goes on to the next job by itself: a wake-up comes through two other processes, and
# the device waits meanwhile. Who is told to stop hears of it between two wake-ups.
WAKE_UP_SECONDS = 0.25
# How long a job's last pictures wait at most until the next job is drawn, which takes 5 to 15 ms.
NEXT_SECONDS = 0.05
# After a death while the model was loaded, the slot's next process waits before it loads again: so long,
# and twice as long after each further one. After so many in a row the slot is paused.
START_PAUSE_SECONDS, LONGEST_START_PAUSE_SECONDS = 2.0, 60.0
FAILED_STARTS = 5
# A device that failed so often within so long is not trusted with more jobs.
FATAL_ERRORS = 3
FATAL_WITHIN = timedelta(minutes=10)

_process: "WorkerProcess | None" = None
_slot: "IO[str] | None" = None


class WorkerProcess:
    """This process on its slot: its row, its engine (the model stays loaded), and its heartbeat."""

    def __init__(self, engine: str) -> None:
        self.engine_name = engine
        # Why the model's files are not on this host.
        self.lacks = ""
        self.engine: Engine | None = None
        self.row = Worker.start(
            settings.FLUXSITE_HOST, settings.FLUXSITE_DEVICE, engine, os.getpid(), **self._device_facts()
        )
        self.loads_at = time.monotonic() + self._pause_after_failed_starts()
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

    def _pause_after_failed_starts(self) -> float:
        """How many seconds to wait before the model is loaded; pauses the slot after too many failures."""
        failed = self.row.failed_starts
        if failed < FAILED_STARTS:
            return (
                min(START_PAUSE_SECONDS * 2 ** (failed - 1), LONGEST_START_PAUSE_SECONDS) if failed else 0.0
            )
        note = (
            f"Paused: the worker died {failed} times in a row while it loaded the model. "
            "Read the log of this host, mend the cause, then resume."
        )
        log.critical("%s %s", self.row, note)
        self.row.now(failed_starts=0)
        self.row.set_mode(Mode.PAUSE, note)
        self.row.mode = Mode.PAUSE
        return 0.0

    # The heartbeat ------------------------------------------------------------------------------------

    def beat_for_ever(self) -> None:
        """The heartbeat, in a thread of its own: loading a model takes minutes."""
        while True:
            time.sleep(min(settings.FLUXSITE_LEASE_SECONDS / 3, HEARTBEAT_SECONDS))
            try:
                close_old_connections()
                self.beat()
            except Exception:  # whatever it is: without a heartbeat the job goes to another worker
                log.exception("Heartbeat failed; trying again")

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
            return {"utilisation": None, "celsius": None}
        return {
            "device_name": device.name, "memory_total": device.total, "memory_free": device.free,
            "utilisation": device.utilisation, "celsius": device.celsius,
        }  # fmt: skip

    def _held_facts(self) -> dict[str, Any]:
        held = self.engine.held() if self.engine and self.is_loaded else engines.Held()
        return {"memory_model": held.model, "memory_loras": held.loras, "loras": sorted(held.sha256)}

    # One wake-up --------------------------------------------------------------------------------------

    def run_next_jobs(self) -> str:
        """Draw the next job, and if it was a short one those after it; returns what became of the last."""
        until = time.monotonic() + WAKE_UP_SECONDS
        outcome = self.run_next_job()
        while self.more and time.monotonic() < until:
            outcome = self.run_next_job()
        return outcome

    def run_next_job(self) -> str:
        """Draw the next job; returns what became of it, for django-q2's log.

        Afterwards ``rest`` is for how long no wake-up is wanted, ``more`` whether there may be more to do.
        """
        self.rest, self.more = 0.0, False
        self._fetch_model()
        if reason := self.cannot_start():
            log.warning("%s", reason)
            self.waits = True
            self.rest = min(max(self.loads_at - time.monotonic(), 0), WAIT_SECONDS) or WAIT_SECONDS
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
        # In every line of the log from here on; the prompt only to be taken out of them.
        with bound_contextvars(job=str(job.pk), user=job.owner_id, prompt=job.prompt):
            log.info("Attempt %d begins", job.attempt)
            outcome = Attempt(job, self).run()
        self.warm.append(job.lora_set)
        return f"{job.pk} attempt {job.attempt}: {outcome}"

    @property
    def card(self) -> ModelCard:
        return ModelCard.of(settings.FLUXSITE_MODEL)

    @property
    def is_loaded(self) -> bool:
        return self.engine is not None and self.engine.loaded

    def save(self, work: Callable[[], None]) -> None:
        """Do it beside the drawing, one after the other."""
        self.saving = self.saver.submit(copy_context().run, work)  # its lines of the log name the job, too

    def save_when_it_goes_on(self, work: Callable[[], None]) -> None:
        """The same for a job's last pictures: the device waits for the next job, and they do not."""

        def wait_and_work() -> None:
            self.goes_on.wait(NEXT_SECONDS)
            work()

        self.goes_on.clear()
        self.save(wait_and_work)

    def finish_saving(self) -> None:
        """Wait until everything drawn so far is stored."""
        self.goes_on.set()
        wait([self.saving])

    def settle(self) -> None:
        """The same, for good: nothing more is stored."""
        self.saver.shutdown()

    def _begins(self, state: Worker.State) -> None:
        """Show that it does something else now."""
        # Its own note of what it waited for goes; one of operators stays.
        facts = {"note": ""} if self.waits else {}
        self.waits = False
        try:
            self.says(state, **facts)
        except (DatabaseError, InterfaceError):
            log.exception("The worker's state could not be recorded")

    def drain(self) -> None:
        """Give the memory back; the next job loads the model again."""
        if self.engine:
            self.engine.unload()
        self.engine = None
        watched.holds_model(False)
        self.says(Worker.State.IDLE, model="", **self._device_facts(), **self._held_facts())

    def _fetch_model(self) -> None:
        """Have a shared model's files on this host, before a job is taken: others may draw it meanwhile."""
        if self.is_loaded or not settings.SHARED_MODEL:
            return
        self.waits, self.lacks = True, "Fetches the model from the file store."
        self.says(Worker.State.WAITING, note=self.lacks)
        fetching = threading.Thread(target=self._fetch, daemon=True, name="fetch")
        fetching.start()
        # If the cluster is told to stop, the process ends with the thread: a download takes minutes.
        while fetching.is_alive() and not watched.stops():
            fetching.join(STOP_POLL_SECONDS)

    def _fetch(self) -> None:
        try:
            shared_models.fetch(settings.SHARED_MODEL, Path(settings.FLUXSITE_MODEL), weights=True)
            self.lacks = ""
        except Exception as error:
            log.warning("The model could not be fetched", exc_info=True)
            self.lacks = f"Waits for the model: {error}"

    def cannot_start(self) -> str:
        """Why no job should be taken now though the next one may be welcome; empty if one should."""
        if self.lacks:
            return self.lacks
        floor = settings.FLUXSITE_DISK_FLOOR_MB * 10**6
        free = storage.free_bytes()
        if free is not None and free < floor:
            return f"Waits for disk space: {free / 1e9:.1f} GB are free, {floor / 1e9:.1f} GB are needed."
        if self.is_loaded:
            return ""
        if (left := self.loads_at - time.monotonic()) > 0:
            why = "the process before died while it loaded the model"
            return f"Waits {duration(left)} before it loads again: {why}."
        try:
            device, host = devices.find(settings.FLUXSITE_DEVICE), devices.find("cpu")
            return backends.waits_for_memory(self.engine_name, self._config(), device, host)
        except (LookupError, EngineError, OSError, ValueError):
            return ""  # the job says it, with more words

    def ready_engine(self) -> Engine:
        """The engine, made at the first job: this is where torch is imported."""
        if self.engine is None:
            try:
                device, host = devices.find(settings.FLUXSITE_DEVICE), devices.find("cpu")
                config = self._config()
            except LookupError as error:
                raise ModelFailed(str(error)) from error
            except (OSError, ValueError) as error:
                raise ModelFailed(f"The model could not be loaded: {error}") from error
            self.engine = engines.create(self.engine_name, config, device, host)
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


def start_worker(engine: str) -> None:
    """Make this process the worker of its slot; called once, in the worker that django-q2 has just forked."""
    global _process, _slot
    _slot = slots.take(settings.VAR_DIR / "slots", settings.FLUXSITE_DEVICE, engine, watched.stops)
    if _slot is None:
        sys.exit()
    _process = WorkerProcess(engine)
    threading.Thread(target=_process.beat_for_ever, daemon=True, name="heartbeat").start()
    Finalize(_process, _stopped, args=(_process,), exitpriority=1)
    watched.started()


def _stopped(process: WorkerProcess) -> None:
    """When django-q2 ends the process in good order."""
    process.settle()
    process.says(Worker.State.STOPPED, utilisation=None, celsius=None)


def run_jobs(engine: str) -> str:
    """Claim jobs of ``engine`` and run them; returns what became of the last, for django-q2's log."""
    if _process is None:
        raise RuntimeError("start_worker was not called in this process")
    watched.busy()
    try:
        return _process.run_next_jobs()
    except DeviceFailed as error:
        # The driver's state is lost with the process, and only with it; no exit handler may touch it again.
        log.critical("%s This worker ends; another takes its job.", error)
        _process.settle()
        logging.shutdown()
        os._exit(1)
    finally:
        watched.ready(_process.rest, _process.more)
