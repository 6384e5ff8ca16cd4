"""Workers: who draws, where, and in what state; and what operators want of them."""

from datetime import timedelta
from typing import Any, ClassVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

# A worker that was not heard of for so long is not counted on.
SILENT_SECONDS = 30


class Mode(models.TextChoices):
    """What operators want of a worker or of a whole engine."""

    RUN = "run"
    PAUSE = "pause"  # takes no new job, keeps the model in memory
    DRAIN = "drain"  # takes no new job, then gives the memory back


class Pool(models.Model):
    """All workers of one engine, wherever they are."""

    engine = models.CharField(primary_key=True, max_length=20)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.RUN)
    note = models.CharField(max_length=400, blank=True, help_text="who paused it")
    queue_limit = models.PositiveIntegerField(
        default=1000, validators=[MinValueValidator(1)], help_text="jobs that may wait; more are answered 429"
    )

    class Meta:
        verbose_name = "engine"

    def __str__(self) -> str:
        return self.engine

    @classmethod
    def of(cls, engine: str) -> "Pool":
        return cls.objects.get_or_create(engine=engine)[0]

    @classmethod
    def locked(cls, engine: str) -> "Pool":
        """The pool, so that of several transactions at once one goes on and the others wait for it."""
        locked = cls.objects.select_for_update(no_key=True)
        return locked.filter(engine=engine).first() or (cls.of(engine) and locked.get(engine=engine))


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> "WorkerQuerySet":
        """Those heard of lately and not stopped on purpose."""
        silent = Now() - timedelta(seconds=SILENT_SECONDS)
        return self.exclude(state=Worker.State.STOPPED).filter(heartbeat__gt=silent)


class Worker(models.Model):
    """One process on one slot: a host, a device and an engine. A restart takes over the slot's row."""

    class State(models.TextChoices):
        IDLE = "idle"
        WAITING = "waiting"
        LOADING = "loading"
        DRAWING = "drawing"
        STOPPED = "stopped"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    host = models.CharField(max_length=255)
    device = models.CharField(max_length=80, help_text="GPU UUID, or cpu")
    engine = models.CharField(max_length=20)
    pid = models.PositiveIntegerField()
    state = models.CharField(max_length=20, choices=State, default=State.IDLE)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.RUN)
    note = models.CharField(max_length=400, blank=True, help_text="why it waits or was paused")
    model = models.CharField(
        max_length=255, blank=True, help_text="the model in memory, empty before the first job"
    )
    load_seconds = models.FloatField(null=True, help_text="how long the last load took")
    device_name = models.CharField(max_length=120, blank=True)
    memory_total = models.PositiveBigIntegerField(default=0, help_text="bytes of the device")
    memory_free = models.PositiveBigIntegerField(
        default=0, help_text="bytes of the device, whoever holds the rest"
    )
    memory_model = models.PositiveBigIntegerField(
        default=0, help_text="bytes this process holds, without LoRAs"
    )
    memory_loras = models.PositiveBigIntegerField(default=0, help_text="bytes of LoRAs kept ready")
    utilisation = models.FloatField(null=True, help_text="of the GPU, 0 to 1; empty if it does not tell")
    celsius = models.SmallIntegerField(
        null=True, help_text="the GPU's temperature; empty if it does not tell"
    )
    loras = models.JSONField(default=list, help_text="sha256 of the LoRAs kept ready")
    failed_starts = models.PositiveSmallIntegerField(
        default=0, help_text="processes in a row that died while they loaded the model"
    )
    started_at = models.DateTimeField(db_default=Now())
    heartbeat = models.DateTimeField(db_default=Now())

    objects = WorkerQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("host", "device", "engine", name="one_worker_per_slot"),
        ]

    def __str__(self) -> str:
        return f"{self.host}/{self.device}/{self.engine}"

    @classmethod
    def start(cls, host: str, device: str, engine: str, pid: int, **facts: Any) -> "Worker":
        """Take the slot's row for a process that has just begun. What operators want of the slot stays.

        If the process before died while it loaded the model, that counts as a failed start of the slot.
        """
        slot = cls.objects.filter(host=host, device=device, engine=engine)
        slot.filter(state=cls.State.LOADING).update(failed_starts=models.F("failed_starts") + 1)
        worker, _ = cls.objects.update_or_create(
            host=host,
            device=device,
            engine=engine,
            defaults={
                "pid": pid, "state": cls.State.IDLE, "started_at": Now(), "heartbeat": Now(),
                "model": "", "memory_model": 0, "memory_loras": 0, "loras": [], **facts,
            },
        )  # fmt: skip
        return worker

    @classmethod
    def wanted(cls, host: str, device: str, engine: str) -> Mode:
        """What operators want of a slot: the stricter of its own mode and its engine's."""
        of_pool = Pool.objects.filter(engine=engine).values("mode")
        slot = cls.objects.filter(host=host, device=device, engine=engine)
        modes = slot.values_list("mode", models.Subquery(of_pool))
        return max(
            (Mode(mode) for both in modes for mode in both if mode), key=list(Mode).index, default=Mode.RUN
        )

    @property
    def is_alive(self) -> bool:
        """Like ``alive()``, of one row and by this machine's clock: for what is only looked at."""
        heard = timezone.now() - self.heartbeat < timedelta(seconds=SILENT_SECONDS)
        return heard and self.state != self.State.STOPPED

    def now(self, state: "Worker.State | None" = None, **facts: Any) -> None:
        """Say that the process lives, and what changed."""
        if state:
            facts["state"] = state
        if "note" in facts:
            facts["note"] = facts["note"][:400]
        Worker.objects.filter(pk=self.pk).update(heartbeat=Now(), **facts)

    def set_mode(self, mode: Mode, note: str = "") -> None:
        Worker.objects.filter(pk=self.pk).update(mode=mode, note=note[:400])
