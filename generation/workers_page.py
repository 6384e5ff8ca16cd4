"""What the Workers page shows. The number of queries is the same however many workers there are."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models import OuterRef, Subquery, Sum, Value
from django.db.models.functions import Concat, Now, TruncMinute
from django.utils import timezone

from accounts.models import UsageEntry, User
from generation import forecast
from generation.models import Job
from generation.words import about, readings
from gpu.engines import ENGINES
from gpu.model_card import ModelCard
from gpu.models import SILENT_SECONDS, Mode, Pool, Worker
from loras.models import Lora

NEXT_IN_LINE = 5
COLUMNS = 12
COLUMN = timedelta(minutes=5)
# In the units of the template's drawing.
CHART_HEIGHT, COLUMN_STEP = 36, 10
# The chart moves once in five minutes; its query reads every entry of the last hour.
CHART_KEPT_SECONDS = 10
LORAS_NAMED = 3
# What ``generation.operations`` notes; any other note is a reason that somebody has to look at.
_BY = re.compile(r"(?:Paused|Drained)(?: by (?P<who>\S+))?")


@dataclass(frozen=True)
class Memory:
    """Of a device, in bytes. ``other``: what other processes hold."""

    total: int
    model: int
    loras: int
    other: int

    @classmethod
    def of(cls, worker: Worker) -> "Memory":
        held = worker.memory_model + worker.memory_loras
        used = worker.memory_total - worker.memory_free
        return cls(worker.memory_total, worker.memory_model, worker.memory_loras, max(0, used - held))

    @property
    def free(self) -> int:
        return max(0, self.total - self.model - self.loras - self.other)

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The parts of the bar: ``kind``, and ``start`` and ``size`` in percent."""
        parts, start = [], 0.0
        for kind in ("model", "loras", "other"):
            size = min(100 * getattr(self, kind) / self.total, 100 - start) if self.total else 0.0
            if size >= 0.1:
                parts.append({"kind": kind, "start": round(start, 1), "size": round(size, 1)})
            start += size
        return parts


@dataclass(frozen=True)
class Slot:
    """A worker as the page shows it.

    ``kind`` names the look of its state, ``words`` say it, ``detail`` adds what to know.
    ``mode``: what operators want of it, its engine's mode included. ``since``: idle, silent or stopped.
    ``box``: what an operator has to look at. ``job``: what it draws; ``prompt``: empty where it is private.
    ``readings``: how busy and how warm its GPU is, empty where that is unknown.
    """

    worker: Worker
    mode: Mode
    kind: str
    words: str
    detail: str
    box: str
    since: datetime | None
    job: Job | None
    prompt: str
    loras: str
    memory: Memory | None
    readings: str


@dataclass(frozen=True)
class Host:
    name: str
    slots: list[Slot]


@dataclass(frozen=True)
class Bar:
    """A column of the chart, with its place in it; the highest fills it."""

    x: int
    y: int
    height: int
    images: int


@dataclass(frozen=True)
class EngineCard:
    """``on``: slots that take jobs. ``note``: who paused it. Times in seconds, None where unknown."""

    name: str
    mode: Mode
    note: str
    on: int
    slots: int
    waiting: int
    limit: int
    wait: float | None
    usual: float | None
    chart: list[Bar]

    @property
    def is_filling(self) -> bool:
        return self.waiting > self.limit / 2

    @property
    def images(self) -> int:
        """Pictures of the last hour."""
        return sum(bar.images for bar in self.chart)


@dataclass(frozen=True)
class InLine:
    position: int
    wait: float | None
    job: Job
    prompt: str


def of(user: User) -> dict[str, Any]:
    """Everything the page shows ``user``."""
    workers = list(_workers())
    pools = {engine: Pool(engine=engine) for engine in ENGINES} | Pool.objects.in_bulk(ENGINES)
    running = {job.worker_id: job for job in _jobs().filter(state=Job.State.RUNNING)}
    names = _lora_names(user, workers)
    slots = [_slot(worker, pools, running.get(worker.pk), names, user) for worker in workers]
    return {
        "engines": [_card(pool, slots) for pool in pools.values()],
        "next": _next_in_line(user),
        "hosts": [Host(name, list(group)) for name, group in groupby(slots, lambda slot: slot.worker.host)],
        "slots": len(slots),
        "drawing": sum(slot.kind in ("drawing", "loading", "draining") and bool(slot.job) for slot in slots),
        "may_change": user.has_perm("gpu.change_worker"),
        "user_id": user.pk,
    }


def _workers() -> Any:
    """Every worker, with the database's time as ``asked_at`` and the end of its last job as ``last``."""
    slot = Concat(OuterRef("host"), Value("/"), OuterRef("device"), Value("/"), OuterRef("engine"))
    entries = UsageEntry.objects.filter(worker=slot).order_by("-created_at").values("created_at")
    workers = Worker.objects.annotate(asked_at=Now(), last=Subquery(entries[:1]))
    return workers.order_by("host", "device_name", "device", "engine")


def _jobs() -> Any:
    fields = (
        "worker", "engine", "state", "stage", "picture", "together", "step", "steps", "count", "prompt",
        "owner__username", "cancel_requested_at", "width", "height",
    )  # fmt: skip
    return Job.objects.select_related("owner").only(*fields)


def _lora_names(user: User, workers: Iterable[Worker]) -> dict[str, str]:
    """The names of those loaded LoRAs that ``user`` may use, by hash."""
    loaded = {sha256 for worker in workers for sha256 in worker.loras}
    family = ModelCard.of(settings.FLUXSITE_MODEL).family
    usable = Lora.objects.usable_by(user, family).filter(sha256__in=loaded)
    return dict(usable.values_list("sha256", "name"))


def _slot(
    worker: Any, pools: Mapping[str, Pool], job: Job | None, names: Mapping[str, str], user: User
) -> Slot:
    pool = pools.get(worker.engine, Pool())
    mode = max(Mode(worker.mode), Mode(pool.mode), key=list(Mode).index)
    is_silent = worker.asked_at - worker.heartbeat > timedelta(seconds=SILENT_SECONDS)
    kind, words, detail = _state(worker, mode, job, is_silent)
    is_gone = kind in ("stopped", "silent")
    return Slot(
        worker=worker,
        mode=mode,
        kind=kind,
        words=words,
        detail=detail,
        box=_box(worker, kind, job),
        since=worker.heartbeat if is_gone else max(filter(None, (worker.last, worker.started_at))),
        job=job,
        prompt=_prompt(job, user),
        loras="" if is_gone else _loaded(worker, names),
        memory=Memory.of(worker) if worker.memory_total and not is_gone else None,
        readings="" if is_gone else readings(worker.utilisation, worker.celsius),
    )


def _state(worker: Worker, mode: Mode, job: Job | None, is_silent: bool) -> tuple[str, str, str]:
    """Its look, its words, and what adds to them."""
    if worker.state == Worker.State.STOPPED:
        return "stopped", "Stopped", ""
    if is_silent:
        return "silent", "No signal", ""
    if mode == Mode.DRAIN:
        if job or worker.model:
            return "draining", "Draining", "takes no new job" if job else "gives memory back"
        return "drained", "Drained", _who(worker, mode)
    if mode == Mode.PAUSE and job is None:
        return "paused", "Paused", _who(worker, mode)
    then = "then pauses" if mode == Mode.PAUSE else ""
    if worker.state == Worker.State.WAITING:
        return "waiting", "Waiting", ""
    if worker.state == Worker.State.LOADING:
        return "loading", "Loading", then or about(worker.load_seconds)
    if job:
        return "drawing", "Drawing", then
    return "ready", "Ready", "" if worker.model else f"loads first {about(worker.load_seconds)}".strip()


def _who(worker: Worker, mode: Mode) -> str:
    if worker.mode != mode:
        return f"with all {worker.engine.upper()}"
    by = _BY.fullmatch(worker.note)
    return f"by {by['who']}" if by and by["who"] else ""


def _box(worker: Worker, kind: str, job: Job | None) -> str:
    """What an operator has to look at, as cause and remedy."""
    if kind == "silent":
        again = "Its job starts again elsewhere. " if job else ""
        return (
            f"{worker.host} does not answer for this slot. {again}"
            "Look whether the host is on, and start its workers again."
        )
    if kind == "waiting":
        return worker.note
    if worker.mode != Mode.RUN and worker.note and not _BY.fullmatch(worker.note):
        return f"{worker.note.rstrip('.')}. Look at the device and at the worker's log, then resume it."
    return ""


def _prompt(job: Job | None, user: User) -> str:
    """The prompt, for its owner and for those who may see all jobs."""
    if job and (job.owner_id == user.pk or user.has_perm("generation.view_job")):
        return job.prompt
    return ""


def _loaded(worker: Worker, names: Mapping[str, str]) -> str:
    """The LoRAs it keeps ready, in words; those that are not the user's to see are counted."""
    known = sorted(names[sha256] for sha256 in worker.loras if sha256 in names)
    shown = known[:LORAS_NAMED]
    more = len(worker.loras) - len(shown)
    if not shown:
        return f"{more} LoRA{'s' if more > 1 else ''} ready" if more else ""
    return ", ".join(shown) + (f" and {more} more" if more else "") + " ready"


def _card(pool: Pool, slots: Sequence[Slot]) -> EngineCard:
    mine = [slot for slot in slots if slot.worker.engine == pool.engine]
    on = [slot for slot in mine if slot.mode == Mode.RUN and slot.kind not in ("stopped", "silent")]
    return EngineCard(
        name=pool.engine,
        mode=Mode(pool.mode),
        note=pool.note,
        on=len(on),
        slots=len(mine),
        waiting=len(forecast.places(pool.engine)),
        limit=pool.queue_limit,
        wait=forecast.wait_now(pool.engine),
        usual=forecast.usual_seconds(pool.engine),
        chart=_chart(_last_hour([slot.worker for slot in slots])[pool.engine]),
    )


def _last_hour(workers: Iterable[Worker]) -> dict[str, list[int]]:
    """Pictures of each engine by five minutes, the newest last."""
    found: dict[str, list[int]] | None = cache.get("last-hour")
    if found is None:
        found = _count_last_hour(workers)
        cache.set("last-hour", found, CHART_KEPT_SECONDS)
    return found


def _count_last_hour(workers: Iterable[Worker]) -> dict[str, list[int]]:
    now = timezone.now()
    # From a full five minutes on, so that the columns stand still between them.
    start = now - COLUMN * (COLUMNS - 1) - (now - datetime.min.replace(tzinfo=now.tzinfo)) % COLUMN
    # By worker, as the ledger's index is.
    slots = [str(worker) for worker in workers]
    entries = UsageEntry.objects.filter(worker__in=slots, created_at__gte=start).order_by()
    by_minute = entries.values_list("engine", TruncMinute("created_at")).annotate(Sum("images"))
    columns: dict[str, list[int]] = defaultdict(lambda: [0] * COLUMNS)
    for engine, minute, images in by_minute:
        columns[engine][min(COLUMNS - 1, max(0, (minute - start) // COLUMN))] += images
    return {engine: columns[engine] for engine in {*ENGINES, *columns}}


def _chart(columns: list[int]) -> list[Bar]:
    highest = max(columns) or 1
    heights = [max(2, round(CHART_HEIGHT * images / highest)) for images in columns]
    return [
        Bar(COLUMN_STEP * i, CHART_HEIGHT - height, height, images)
        for i, (height, images) in enumerate(zip(heights, columns, strict=True))
    ]


def _next_in_line(user: User) -> list[InLine]:
    """The next jobs of all engines, those that start soonest first."""
    places = {pk: place for engine in ENGINES for pk, place in forecast.places(engine).items()}
    soonest = sorted(
        places, key=lambda pk: (places[pk].wait is None, places[pk].wait or 0.0, places[pk].position)
    )[:NEXT_IN_LINE]
    jobs = _jobs().filter(state=Job.State.QUEUED).in_bulk(soonest)
    return [
        InLine(places[pk].position, places[pk].wait, jobs[pk], _prompt(jobs[pk], user))
        for pk in soonest
        if pk in jobs
    ]
