"""Jobs. Their table is the queue: see ``generation.queue`` for how a worker takes one."""

import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.db import models, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.db.models.lookups import Exact
from django.urls import reverse
from uuid_utils.compat import uuid7

from accounts.models import User
from generation import limits, wake_up
from generation.queue import JobQuerySet
from gpu.models import Worker
from loras.models import Admission, Lora

log = logging.getLogger(__name__)


def _side(field: str) -> models.Q:
    bounds = {f"{field}__gte": limits.MIN_SIDE, f"{field}__lte": limits.MAX_SIDE}
    return models.Q(**bounds) & models.Q(Exact(models.F(field) % limits.SIDE_STEP, 0))


class MissingLora(Exception):
    """A job cannot be asked for again: a LoRA of it is gone. The text is a sentence for the owner."""


class Job(models.Model):
    """What somebody asked for, what became of it, and the worker that has it. One job makes 1–4 pictures."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Stage(models.TextChoices):
        """What a running job does now."""

        LOADING = "loading"
        DRAWING = "drawing"
        SAVING = "saving"

    ASKED = ("prompt", "width", "height", "count", "seed", "steps", "engine")
    FINAL = (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="jobs",
        help_text="nobody: the studio tries a LoRA",
    )

    # What was asked: never changed after the insert.
    prompt = models.TextField()
    width = models.PositiveIntegerField(help_text="pixels")
    height = models.PositiveIntegerField(help_text="pixels")
    count = models.PositiveSmallIntegerField(default=1, help_text="pictures")
    seed = models.BigIntegerField(help_text="of the first picture; each next one has the next seed")
    steps = models.PositiveSmallIntegerField(default=4)
    engine = models.CharField(max_length=20)
    loras = models.ManyToManyField(Lora, through="JobLora", related_name="jobs")

    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries",
        help_text="the job that this one asks for again",
    )  # fmt: skip
    # A request that comes twice makes one job: see ``generation.repeats``.
    idempotency_key = models.CharField(  # noqa: DJ001 (no key is not a key)
        max_length=200, null=True, blank=True, editable=False, help_text="unique for each owner"
    )
    request_hash = models.CharField(
        max_length=64, blank=True, editable=False, help_text="sha256 of the API's request"
    )
    trial = models.ForeignKey(
        Admission, null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs",
        help_text="what it is to find out, with the LoRA or without",
    )  # fmt: skip

    # Where it is in the queue and who has it. ``attempt`` is the fence: it grows with every claim.
    state = models.CharField(max_length=20, choices=State, default=State.QUEUED)
    expected_seconds = models.FloatField(
        null=True,
        blank=True,
        help_text="of drawing and saving, learned from jobs before; empty if none was like it",
    )
    lora_set = models.CharField(
        max_length=160, blank=True, help_text="its LoRAs, in any order and with any weights"
    )
    priority = models.SmallIntegerField(default=0, help_text="a higher one is drawn before all lower ones")
    attempt = models.PositiveSmallIntegerField(default=0)
    deaths = models.PositiveSmallIntegerField(
        default=0, help_text="attempts that ended because the worker died while it drew the job"
    )
    worker = models.ForeignKey(Worker, null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs")
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    # How far it is.
    stage = models.CharField(max_length=20, choices=Stage, blank=True)
    picture = models.PositiveSmallIntegerField(
        default=0, help_text="index of the picture being drawn, from 0"
    )
    together = models.PositiveSmallIntegerField(
        default=1, help_text="pictures being drawn at once, that one first"
    )
    step = models.PositiveSmallIntegerField(default=0, help_text="steps done of that picture")

    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True, help_text="of the last attempt")
    finished_at = models.DateTimeField(null=True, blank=True)
    load_seconds = models.FloatField(null=True, blank=True)
    draw_seconds = models.FloatField(null=True, blank=True)
    save_seconds = models.FloatField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True, help_text="a sentence for the owner: cause and remedy")
    notice = models.TextField(blank=True, help_text="what the owner should know of a job that went well")

    # What a claim reads along with the row: see ``generation.order``.
    owner_is_active: bool

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["owner", "-id"], name="job_newest_of_owner"),
            # The header of every page asks what of somebody's is in flight, the history what failed.
            models.Index(fields=["owner", "state", "-id"], name="job_of_owner_by_state"),
            # What a claim looks for: see ``generation.queue``.
            models.Index(
                # The state too, or SQLite reads each row to make sure of it (8 ms for 10,000).
                fields=["engine", "state", "priority", "owner", "created_at"],
                name="job_queued",
                condition=models.Q(state="queued"),
            ),
            models.Index(
                fields=["engine", "lora_set", "created_at"],
                name="job_queued_by_loras",
                condition=models.Q(state="queued"),
            ),
            models.Index(
                fields=["engine", "lease_until"], name="job_running", condition=models.Q(state="running")
            ),
            # What is learned from.
            models.Index(fields=["engine", "-id"], name="job_drawn", condition=models.Q(state="succeeded")),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"],
                name="one_job_per_key",
                condition=models.Q(idempotency_key__isnull=False),
            ),
            models.CheckConstraint(condition=_side("width"), name="job_width"),
            models.CheckConstraint(condition=_side("height"), name="job_height"),
            models.CheckConstraint(
                condition=models.Q(count__gte=1, count__lte=limits.MAX_COUNT), name="job_count"
            ),
            models.CheckConstraint(
                condition=models.Q(seed__gte=0, seed__lte=limits.MAX_SEED), name="job_seed"
            ),
            models.CheckConstraint(
                condition=models.Q(steps__gte=1, steps__lte=limits.MAX_STEPS), name="job_steps"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prompt[:60]} ({self.state})"

    def get_absolute_url(self) -> str:
        return reverse("generation:job", args=[self.pk])

    @classmethod
    def submit(
        cls,
        owner: User | None,
        *,
        loras: Iterable[tuple[Lora, float]] = (),
        seed: int | None = None,
        **asked: Any,
    ) -> "Job":
        """Put a job in the queue: once this returns it survives anything.

        ``asked``: the checked ``prompt, width, height, count, steps, engine``, and what the row keeps of the
        request: ``parent, idempotency_key, request_hash``. A missing seed is
        chosen here and recorded. Nobody's job has no quota, and is no use of its LoRAs. Raises TooMuch,
        and IntegrityError for what no caller should let through.
        """
        from generation import forecast, quotas  # they know jobs

        if seed is None:
            seed = secrets.randbelow(limits.CHOSEN_SEEDS)
        loras = list(loras)
        job = cls(owner=owner, seed=seed, lora_set=lora_set(lora for lora, _ in loras), **asked)
        job.expected_seconds = forecast.seconds_of(job)
        with transaction.atomic():
            if owner:
                quotas.check(job, owner)
                for lora in sorted({lora.pk for lora, _ in loras}):  # in this order nobody waits in a circle
                    Lora.objects.filter(pk=lora).update(uses=F("uses") + 1)
            job.save(force_insert=True)
            JobLora.objects.bulk_create(
                JobLora(
                    job=job,
                    lora=lora,
                    order=order,
                    weight=weight,
                    name=lora.name,
                    slug=lora.slug,
                    sha256=lora.sha256,
                )
                for order, (lora, weight) in enumerate(loras)
            )
            wake_up.send()
        log.info("Job %s submitted", job.pk, extra={"job": str(job.pk)})
        return job

    def cancel(self) -> bool:
        """Stop the job: a waiting one at once, a running one before its next step.

        Returns whether there was anything left to stop.
        """
        mine = Job.objects.filter(pk=self.pk)
        if mine.filter(state=Job.State.QUEUED).update(state=Job.State.CANCELLED, finished_at=Now()):
            return True
        running = mine.filter(state=Job.State.RUNNING)
        return bool(running.update(cancel_requested_at=Now()))

    def retry(self, **kept: Any) -> "Job":
        """Ask for the same again, the seed too, as a new job. ``kept``: what its row keeps of the request.

        Raises what ``again`` does.
        """
        return self.again(kept)

    def again(self, kept: Mapping[str, Any] | None = None, /, **changes: Any) -> "Job":
        """Ask for the same as a new job, with ``changes``, checked as whatever its owner asks for.

        Raises MissingLora, ValidationError (of rest_framework) and TooMuch, each with a sentence.
        """
        from generation.job_request import JobRequest  # it knows what the model allows

        self._check_loras_are_there()
        asked = JobRequest(data=self.as_request(**changes), context={"owner": self.owner})
        asked.is_valid(raise_exception=True)
        return Job.submit(self.owner, parent=self, **asked.validated_data, **(kept or {}))

    def as_request(self, **changes: Any) -> dict[str, Any]:
        """What the API is to be sent for the same, with ``changes``."""
        loras = [
            {"slug": one.lora.slug if one.lora else one.slug, "weight": one.weight}
            for one in self.job_loras.select_related("lora")
        ]
        return {**{name: getattr(self, name) for name in self.ASKED}, "loras": loras, **changes}

    def _check_loras_are_there(self) -> None:
        if gone := self.job_loras.filter(lora=None).first():
            raise MissingLora(f"{gone.name} is no longer in the library.")

    @property
    def is_over(self) -> bool:
        return self.state in self.FINAL

    @property
    def seeds(self) -> range:
        """The seed of each picture, in order."""
        return range(self.seed, self.seed + self.count)

    @property
    def weights(self) -> list[tuple[str, float]]:
        """Its LoRAs by their hashes, each with its weight, in an order of their own."""
        return sorted((one.sha256, one.weight) for one in self.job_loras.all())

    @property
    def waited_seconds(self) -> float | None:
        """From sending to the start of the last attempt (or the end, if it never started)."""
        until = self.started_at or self.finished_at
        return (until - self.created_at).total_seconds() if until else None


def lora_set(loras: Iterable[Lora]) -> str:
    """A name of this set of LoRAs, the same whatever their order; of none it is empty."""
    return ",".join(sorted({lora.sha256[:16] for lora in loras}))


class JobLora(models.Model):
    """A LoRA of a job. Name and hash are kept here: they outlive the library's entry."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="job_loras")
    lora = models.ForeignKey(Lora, null=True, on_delete=models.SET_NULL, related_name="job_loras")
    order = models.PositiveSmallIntegerField()
    weight = models.FloatField()
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=80)
    sha256 = models.CharField(max_length=64)

    class Meta:
        ordering: ClassVar = ["order"]
        constraints: ClassVar = [
            models.UniqueConstraint("job", "order", name="one_lora_per_place"),
            models.CheckConstraint(
                condition=models.Q(weight__gte=-limits.MAX_WEIGHT, weight__lte=limits.MAX_WEIGHT),
                name="job_lora_weight",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.weight}"
