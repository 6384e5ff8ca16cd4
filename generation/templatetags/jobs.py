"""A job in words and tiles: what each of its pictures does now."""

from dataclasses import dataclass
from uuid import UUID

from django import template
from django.conf import settings
from django.urls import reverse
from django.utils.http import urlencode

from generation import forecast, words
from generation.engine_states import EngineState, state_of
from generation.models import Image, Job

register = template.Library()
# A meter of more steps than this is one continuous bar.
MOST_SEGMENTS = 8
NO_BREAK = "\u00a0"


@dataclass(frozen=True)
class Tile:
    """The place of one picture. ``kind`` names its look; ``done`` counts its finished steps.

    ``wait``: how long what it does now will take.
    """

    index: int
    kind: str
    label: str = ""
    done: int = 0
    wait: str = ""
    image: Image | None = None


@register.filter
def tiles(job: Job) -> list[Tile]:
    """A tile for each picture of the job, in order."""
    images = {image.index: image for image in job.images.all()}
    return [_tile(job, index, images.get(index)) for index in range(job.count)]


@register.filter
def first_picture(job: Job) -> Image | None:
    """What stands for the job in a list."""
    return next((image for image in job.images.all() if not image.trashed_at), None)


def _tile(job: Job, index: int, image: Image | None) -> Tile:
    if image and image.trashed_at:
        return Tile(index, "trashed", "In the trash")
    if image:
        return Tile(index, "picture", image=image)
    if job.state == Job.State.FAILED:
        return Tile(index, "failed", "Failed")
    if job.state == Job.State.CANCELLED:
        return Tile(index, "cancelled", "Cancelled")
    if job.state == Job.State.SUCCEEDED:
        return Tile(index, "cancelled", "Deleted")
    if job.state == Job.State.QUEUED:
        now = waiting(job)
        return Tile(index, "waiting", "Queued" if index else now.words, wait="" if index else now.wait)
    return _running_tile(job, index)


def _running_tile(job: Job, index: int) -> Tile:
    if index >= job.picture + job.together:
        return Tile(index, "waiting", "Next")
    if job.stage == Job.Stage.LOADING:
        return Tile(index, "loading", f"Loading {job.engine.upper()}", wait=_load_time(job))
    if job.stage == Job.Stage.SAVING:
        return Tile(index, "saving", "Saving", job.steps)
    if job.stage == Job.Stage.DRAWING:
        return Tile(index, "drawing", _step(job), job.step)
    return Tile(index, "waiting", "Starting")


def _load_time(job: Job) -> str:
    return words.about(job.worker.load_seconds) if job.worker else ""


def _step(job: Job) -> str:
    return f"Step {min(job.step + 1, job.steps)} of {job.steps}"


@register.filter
def state_words(job: Job) -> str:
    """What the job does now, or what became of it."""
    if job.state == Job.State.SUCCEEDED:
        return "Done"
    if job.state == Job.State.QUEUED:
        return waiting(job).words
    if job.state != Job.State.RUNNING:
        return job.get_state_display().capitalize()
    return "Stopping" if job.cancel_requested_at else _running_tile(job, job.picture).label


@register.filter
def state_wait(job: Job) -> str:
    """What stands behind the words while the job waits or loads: ~14 s."""
    if job.state == Job.State.QUEUED:
        return waiting(job).wait
    is_loading = job.stage == Job.Stage.LOADING and not job.cancel_requested_at
    return _load_time(job) if job.state == Job.State.RUNNING and is_loading else ""


@dataclass(frozen=True)
class Waiting:
    """A queued job: what it waits for, how long, and what helps where waiting alone does not."""

    words: str
    wait: str = ""
    remedy: str = ""


@register.filter
def waiting(job: Job) -> Waiting:
    """What a queued job waits for. Costs no query a job: places and states are remembered for a moment."""
    engine, name = state_of(job.engine), job.engine.upper()
    if engine.state == "off":
        return Waiting(f"Waits for a {name} slot", "none is on", "An admin can start one")
    if engine.state == "paused":
        return Waiting(f"{name} is paused", remedy="An admin can resume it")
    if engine.state == "waits":
        return Waiting(f"{name} waits", remedy=engine.note)
    place = forecast.place_of(job)
    if place is None:
        return Waiting("Queued")
    # Whose turn it is and still waits, waits for a job that takes longer than expected.
    wait = words.about(place.wait) if place.wait else ""
    return Waiting(f"{words.place(place.position)} in line", wait)


@register.filter
def engine_words(engine: EngineState) -> str:
    """What a job for the engine meets just now, in a word or two."""
    if engine.state == "loads":
        return f"Loads {words.about(engine.load_seconds) or 'first'}"
    return engine.state.capitalize()


@register.filter
def state_icon(job: Job) -> str:
    """The icon beside the words; a job that runs shows its step meter instead."""
    return {"queued": "clock", "succeeded": "check", "failed": "alert-triangle", "cancelled": "circle-x"}.get(
        job.state, ""
    )


@register.filter
def again(job: Job) -> str:
    """What to know of a job whose worker stopped: it starts again by itself."""
    if job.state != Job.State.RUNNING or job.attempt < 2:
        return ""
    if not job.deaths:
        return "Starts again. The worker before stopped while it loaded the model"
    attempts = settings.FLUXSITE_MAX_ATTEMPTS
    return f"Starts again, attempt {job.deaths + 1} of {attempts}. The worker before stopped"


@register.filter
def stopped_at(job: Job) -> str:
    """How far a cancelled job had come, or why the studio cancelled it."""
    if job.error:
        return job.error
    if job.started_at is None:
        return "Cancelled before it started"
    if job.count > 1:
        return f"Cancelled at picture {job.picture + 1} of {job.count}"
    return f"Cancelled at step {min(job.step + 1, job.steps)} of {job.steps}"


@register.filter
def seconds_each(job: Job) -> float | None:
    """How long a picture took to draw; unknown when an earlier attempt drew some of them."""
    if job.state != Job.State.SUCCEEDED or job.attempt != 1 or job.draw_seconds is None:
        return None
    return job.draw_seconds / job.count


@register.filter
def timing(job: Job) -> str:
    """Its stages: waited 0.4 s, loaded 9.2 s, drew 1.7 s each, saved 0.1 s; those that were measured."""
    each = seconds_each(job)
    loaded = job.load_seconds if job.load_seconds and job.load_seconds >= 0.05 else None
    stages = [
        ("waited", job.waited_seconds, ""),
        ("loaded", loaded, ""),
        ("drew", each, " each" if job.count > 1 else ""),
        ("saved", job.save_seconds, ""),
    ]
    told = (f"{did} {words.duration(took)}{more}" for did, took, more in stages if took is not None)
    return ", ".join(stage.replace(" ", NO_BREAK) for stage in told)


@register.inclusion_tag("_partials/meter.html")
def meter(done: int, steps: int, *, moves: bool = False) -> dict[str, object]:
    """The step meter: a segment for each step; half of one is filled while it is drawn (``moves``)."""
    return {
        "done": done,
        "steps": steps,
        "bar": steps > MOST_SEGMENTS,
        "segments": ["full" if i < done else "half" if moves and i == done else "" for i in range(steps)],
    }


# Where the other engine may do what this one could not: by engine and what went wrong.
_OTHER = {("bf16", "out_of_memory"): "fp4", ("fp4", "lora"): "bf16", ("fp4", "invalid_output"): "bf16"}


@register.filter
def other_engine(job: Job) -> str:
    """The engine to retry a failed job on; empty where that would not help."""
    return _OTHER.get((job.engine, job.error_code), "")


@register.filter
def reuse_url(image: Image) -> str:
    """The form with everything of a picture's recipe, its seed included."""
    return _form_url(image.job_id, image.seed)


@register.filter
def retry_url(job: Job) -> str:
    """The form with everything of a job, its seed included."""
    return _form_url(job.pk, job.seed)


@register.filter
def remix_url(job: Job) -> str:
    """The form with everything of a job but the seed."""
    return _form_url(job.pk)


def _form_url(pk: UUID, seed: int | None = None) -> str:
    query = {"from": str(pk)} if seed is None else {"from": str(pk), "seed": str(seed)}
    return f"{reverse('generation:generate')}?{urlencode(query)}"
