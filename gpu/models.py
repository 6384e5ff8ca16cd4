"""Workers: who draws, where, and in what state."""

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> "WorkerQuerySet":
        """Those heard of in the last 30 s and not stopped on purpose."""
        return self.exclude(state=Worker.State.STOPPED).filter(heartbeat__gt=Now() - timedelta(seconds=30))


class Worker(models.Model):
    """One process on one slot: a host, a device and an engine. A restart takes over the slot's row."""

    class State(models.TextChoices):
        IDLE = "idle"
        LOADING = "loading"
        DRAWING = "drawing"
        STOPPED = "stopped"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    host = models.CharField(max_length=255)
    device = models.CharField(max_length=80, help_text="GPU UUID, or cpu")
    engine = models.CharField(max_length=20)
    pid = models.PositiveIntegerField()
    state = models.CharField(max_length=20, choices=State, default=State.IDLE)
    model = models.CharField(
        max_length=255, blank=True, help_text="the model in memory, empty before the first job"
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
    def start(cls, host: str, device: str, engine: str, pid: int) -> "Worker":
        """Take the slot's row for a process that has just begun."""
        worker, _ = cls.objects.update_or_create(
            host=host,
            device=device,
            engine=engine,
            defaults={
                "pid": pid, "state": cls.State.IDLE, "model": "", "started_at": Now(), "heartbeat": Now()
            },
        )  # fmt: skip
        return worker

    def beat(self) -> None:
        """Say that the process lives."""
        Worker.objects.filter(pk=self.pk).update(heartbeat=Now())

    def now(self, state: "Worker.State", **facts: str) -> None:
        """Record what the worker does from now on."""
        Worker.objects.filter(pk=self.pk).update(state=state, heartbeat=Now(), **facts)
