"""One worker's try at one job: draw what is missing, store it beside the drawing, end the job."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.db.models import Prefetch, prefetch_related_objects

from accounts.models import UsageEntry
from files import storage
from files.storage import Away, Damaged
from generation import pictures, trials
from generation.models import Job, JobLora
from generation.watch import worker as watched
from gpu.engines import Cancelled, DeviceFailed, Drawn, Engine, EngineError, ImageSpec, LoraFailed, LoraRef
from gpu.models import Worker
from loras.models import Admission, Lora

if TYPE_CHECKING:
    from generation.runner import WorkerProcess

log = logging.getLogger(__name__)
T = TypeVar("T")

# A step is recorded when the last record is so old: each one is a commit to disk.
REPORT_SECONDS = 0.2
AWAY = "The worker could not fetch a LoRA: the file store did not answer. Ask again when it does."
UNKNOWN = "The worker met an error it does not know. Try again; its log has the details."


class DiskFull(EngineError):
    code = "disk_full"


class Attempt:
    """One worker's try at one job. Everything it writes is fenced by the number of the attempt.

    Pictures are stored, and the job is ended, in the process's saver thread: the device draws on meanwhile.
    """

    def __init__(self, job: Job, process: "WorkerProcess") -> None:
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
        if self.job.attempt > 1:
            # It may be what killed the worker before: no other job's pictures are to be lost with it again.
            self.process.finish_saving()
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
                failed_starts=0,
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
        spec = insist(lambda: self._spec(tuple(self.job.seeds[index] for index in indexes)))
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
            picture = insist(lambda: pictures.write(self.job, index, seed, image, **drawn))
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
            elif isinstance(error, Away):
                log.error("Job %s failed: the file store is away", self.job.pk, exc_info=error)
                self._finish(Job.State.FAILED, error_code="files_away", error=AWAY)
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
        if insist(lambda: Job.objects.finish(self.job, state, **facts)):
            log.info("Job %s: %s", self.job.pk, state)
        else:
            log.warning("Job %s was taken away; this attempt does not count", self.job.pk)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - start


def insist(write: Callable[[], T]) -> T:
    """Do it again when database or files were away, for as long as a lease: a picture is worth it."""
    until = time.monotonic() + settings.FLUXSITE_LEASE_SECONDS
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError, Away):
            if time.monotonic() > until:
                raise
            log.warning("The database or the file store is away; trying again", exc_info=True)
            connection.close()
            time.sleep(0.5)


def _lora_ref(chosen: JobLora) -> LoraRef:
    """The file of a job's LoRA. Raises LoraFailed when the library has it no more."""
    gone = LoraFailed(
        f"{chosen.name} is no longer in the library. Take it out, or ask for it to be uploaded again."
    )
    if chosen.lora is None:
        raise gone
    try:
        path = storage.local(str(chosen.lora.file), chosen.sha256)
    except FileNotFoundError:
        raise gone from None
    except Damaged as error:
        raise LoraFailed(f"The file of {chosen.name} is damaged. Ask for it to be uploaded again.") from error
    modules = chosen.lora.facts.get("changes")
    return LoraRef(chosen.name, path, chosen.sha256, chosen.weight, modules)


def _unread(words: str) -> str:
    return f"The prompt is longer than the model reads. Not read: “{words}”" if words else ""
