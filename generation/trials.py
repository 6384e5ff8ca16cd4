"""Trying LoRAs: each is drawn with once on each engine that has a worker, before anybody may use it.

A trial is two ordinary jobs of low priority that nobody owns, alike but for the LoRA. What they show is kept
as the LoRA's ``Admission`` on that engine, and their pictures as its preview.
"""

import logging
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.db import Error, transaction
from django.db.models import QuerySet

from files import storage
from files.storage import Away
from generation import png_metadata
from generation.engine_states import engine_states
from generation.models import Image, Job
from gpu.engines import InvalidOutput, LoraFailed
from gpu.model_card import ModelCard
from loras import library
from loras.models import Admission, Lora

log = logging.getLogger(__name__)

# Below everybody's jobs.
PRIORITY = -10
SEED = 1
STEPS = 4
# Pixels; large enough for a preview.
LONGEST_SIDE = 512
# Of one engine, at a time: a library of thousands is tried without filling the queue.
MOST_AT_ONCE = 4
# Errors that are the LoRA's own, where the same was drawn without it.
BLAMED = (LoraFailed.code, InvalidOutput.code, "worker_died")
NO_EFFECT = "It changes nothing: the picture drawn with it is the one drawn without it, byte for byte."
UNREADABLE = "What its trial has drawn cannot be read. Try it again."


def go_on(**_: Any) -> None:
    """Begin the trials that are due, as many as may be under way, and admit what needs none. Any time."""
    for engine in _drawing():
        under_way = Admission.objects.filter(engine=engine, state=Admission.State.TRYING).count()
        for lora in _untried(engine)[: max(0, MOST_AT_ONCE - under_way)]:
            begin(lora, engine)
    for lora in Lora.objects.filter(state=Lora.State.VALIDATING):
        settle(lora)


def begin(lora: Lora, engine: str) -> None:
    """Try it, also where it was tried before; nothing happens while it is being tried."""
    with transaction.atomic():
        admission, _ = Admission.objects.select_for_update().get_or_create(
            lora=lora, engine=engine, defaults={"state": Admission.State.UNDECIDED}
        )
        if admission.state == Admission.State.TRYING:
            return
        Job.objects.filter(trial=admission).update(trial=None)
        admission.state, admission.reason = Admission.State.TRYING, ""
        admission.save()
        asked = _asked(lora) | {"trial": admission, "engine": engine, "priority": PRIORITY}
        for loras in ([], [(lora, lora.recommended_weight)]):
            Job.submit(None, loras=loras, **asked)


def begin_again(lora: Lora, **_: Any) -> None:
    """Try it once more on each engine that takes jobs. One that was refused has a new chance."""
    Lora.objects.filter(pk=lora.pk, state=Lora.State.REFUSED).update(state=Lora.State.VALIDATING, reason="")
    for engine in _drawing():
        begin(lora, engine)


def conclude(admission: Admission) -> None:
    """Enter what a trial has shown, once both of its jobs are over. Others may do so at the same time."""
    with transaction.atomic():
        locked = Admission.objects.select_for_update(of=("self",)).select_related("lora")
        admission = locked.get(pk=admission.pk)
        jobs = {bool(job.lora_set): job for job in admission.jobs.order_by("id")}
        if admission.state != Admission.State.TRYING or not all(job.is_over for job in jobs.values()):
            return
        admission.state, admission.reason = _verdict(jobs.get(False), jobs.get(True))
        admission.save()
        if admission.state == Admission.State.WORKS and not admission.lora.preview:
            _keep_previews(admission.lora, jobs[True], jobs[False])
    delete_pictures(jobs.values())
    settle(admission.lora)


def settle(lora: Lora) -> None:
    """Admit or refuse a LoRA that is validated, once all of its trials are over."""
    found = {admission.engine: admission for admission in lora.admissions.all()}
    if any(engine not in found for engine in _drawing()):
        return
    states = {admission.state for admission in found.values()}
    if Admission.State.TRYING in states:
        return
    refused = [admission for admission in found.values() if admission.state == Admission.State.REFUSED]
    facts = {"state": Lora.State.READY, "reason": ""}
    if refused and Admission.State.WORKS not in states:
        facts = {"state": Lora.State.REFUSED, "reason": refused[0].reason}
    Lora.objects.filter(pk=lora.pk, state=Lora.State.VALIDATING).update(**facts)


def sweep() -> None:
    """See to all trials: some may have ended while nobody looked, or lost their workers."""
    drawing = _drawing()
    for admission in Admission.objects.filter(state=Admission.State.TRYING):
        if admission.engine in drawing:
            _conclude_or_give_up(admission)
            continue
        for job in admission.jobs.all():
            job.cancel()
        # As if it had not begun: it is tried when a worker comes.
        admission.delete()
    over = Job.objects.filter(owner=None, images__isnull=False)
    delete_pictures(over.exclude(trial__state=Admission.State.TRYING))
    go_on()


def _conclude_or_give_up(admission: Admission) -> None:
    """A trial whose pictures were lost, say, must not hold up the others each minute anew."""
    try:
        conclude(admission)
    except (Error, Away):  # of the database, or of the file store: it is tried again in a minute
        raise
    except Exception:
        log.exception("What the trial %s has shown cannot be read", admission)
        trying = Admission.objects.filter(pk=admission.pk, state=Admission.State.TRYING)
        trying.update(state=Admission.State.UNDECIDED, reason=UNREADABLE)
        settle(admission.lora)


def forget(instance: Lora, **_: Any) -> None:
    """A LoRA is being deleted: its trials end."""
    jobs = Job.objects.filter(trial__lora=instance)
    for job in jobs:
        job.cancel()
    delete_pictures(jobs)


def delete_pictures(jobs: Iterable[Job] | QuerySet[Job]) -> None:
    """What a trial drew is not kept."""
    Image.objects.filter(owner=None, job__in=list(jobs)).delete()


def _drawing() -> list[str]:
    """The engines that take jobs now."""
    return [state.name for state in engine_states() if state.state not in ("paused", "off")]


def _untried(engine: str) -> QuerySet[Lora]:
    """The LoRAs of this model, the newest first: somebody waits for them."""
    family = ModelCard.of(settings.FLUXSITE_MODEL).family
    wanted = Lora.objects.filter(family=family, state__in=(Lora.State.VALIDATING, Lora.State.READY))
    return wanted.exclude(admissions__engine=engine).order_by("-id")


def _asked(lora: Lora) -> dict[str, Any]:
    """The model's first example, and the LoRA's first trigger: without it many show nothing."""
    card = ModelCard.of(settings.FLUXSITE_MODEL)
    side = min(card.default_side, LONGEST_SIDE)
    prompt = ", ".join((card.example_prompts[0], *lora.trigger_words[:1]))
    return {"prompt": prompt, "width": side, "height": side, "count": 1, "seed": SEED, "steps": STEPS}


def _verdict(without: Job | None, drawn_with: Job | None) -> tuple[str, str]:
    """State and reason of an admission whose jobs are over."""
    for job in (without, drawn_with):
        if job is None or job.state == Job.State.CANCELLED:
            return Admission.State.UNDECIDED, "Its trial was cancelled."
        if job.state == Job.State.FAILED:
            is_its_own = job is drawn_with and job.error_code in BLAMED
            return (Admission.State.REFUSED if is_its_own else Admission.State.UNDECIDED), job.error
    pictures = [_pixels(job) for job in (without, drawn_with) if job]
    if pictures[0] == pictures[1]:
        return Admission.State.REFUSED, NO_EFFECT
    return Admission.State.WORKS, ""


def _pixels(job: Job) -> bytes:
    """The picture that a job drew, without its recipe: that differs by the LoRA alone."""
    with storage.open(str(job.images.get().file)) as file:
        return png_metadata.without_recipe(file.read())


def _keep_previews(lora: Lora, drawn_with: Job, without: Job) -> None:
    library.set_preview(lora, _thumbnail(drawn_with), _thumbnail(without))


def _thumbnail(job: Job) -> ContentFile[bytes]:
    with storage.open(str(job.images.get().thumbnail)) as file:
        return ContentFile(file.read())
