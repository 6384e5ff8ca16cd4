"""The studio's figures for Prometheus.

What jobs and workers do is read from the database when somebody asks, so it is the same whichever web process
answers. What web processes do is counted by each: with several of them set ``PROMETHEUS_MULTIPROC_DIR`` to an
empty folder before they start, and prometheus_client adds them up.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Avg, Count, F, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from accounts.models import UsageEntry
from generation import forecast
from generation.models import Job
from gpu.engines import ENGINES
from gpu.models import Worker
from operations import health

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
# Of the newest jobs so many tell how long each stage takes.
NEWEST = 100
# Entries so old are counted once and remembered: no transaction is open for so long.
SETTLED = timedelta(minutes=5)
REQUESTS = Counter("fluxsite_http_requests", "Requests that were answered.", ["method", "status", "view"])
SECONDS = Histogram(
    "fluxsite_http_request_seconds", "From a request to the begin of its answer.", ["view"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)  # fmt: skip


def count_request(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    view = request.resolver_match.view_name if request.resolver_match else ""
    method = request.method if request.method in METHODS else "other"
    REQUESTS.labels(method, response.status_code, view).inc()
    SECONDS.labels(view).observe(seconds)


def text() -> bytes:
    """All figures, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_studio)
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(registry) + generate_latest(REGISTRY)


class Studio(Collector):
    """Gauges of now, and counters that are sums over the ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _queue()
        yield from self.ledger.collect()
        yield from _stages()
        yield _failures()
        yield from _workers()
        yield from _checks()


def _gauge(name: str, about: str, labels: Iterable[str], samples: Iterable[tuple[Any, ...]]) -> Metric:
    """``samples``: the values of the labels, and last the gauge's. What nobody knows is left out."""
    metric = GaugeMetricFamily(f"fluxsite_{name}", about, labels=list(labels))
    for *values, value in samples:
        if value is not None:
            metric.add_metric([str(one) for one in values], float(value))
    return metric


def _per_engine(ask: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    return ((engine, ask(engine)) for engine in ENGINES)


def _queue() -> Iterator[Metric]:
    engine = ["engine"]
    waiting = _per_engine(lambda engine: Job.objects.queued(engine).count())
    yield _gauge("jobs_waiting", "Jobs that wait.", engine, waiting)
    running = _per_engine(lambda engine: Job.objects.filter(engine=engine, state=Job.State.RUNNING).count())
    yield _gauge("jobs_running", "Jobs that a worker has.", engine, running)
    yield _gauge("queue_age_seconds", "How long the oldest has waited.", engine, _per_engine(_age))
    wait = _per_engine(forecast.wait_now)
    yield _gauge("queue_wait_seconds", "How long a new job will wait, as far as is known.", engine, wait)


def _age(engine: str) -> float:
    age = health.queue_age(engine)
    return age.total_seconds() if age else 0.0


class Ledger:
    """Sums over all of the ledger, which only grows: what was summed once is remembered."""

    FIGURES = ("attempts", "images", "gpu_seconds")

    def __init__(self) -> None:
        self.settled: tuple[int, dict[tuple[str, str], list[float]]] = (0, {})

    def collect(self) -> Iterator[Metric]:
        sums = self.sums()
        for place, name in enumerate(self.FIGURES):
            metric = CounterMetricFamily(
                f"fluxsite_{name}", f"{name} of all attempts at jobs, by how they ended.".capitalize(),
                labels=["engine", "outcome"],
            )  # fmt: skip
            for labels, figures in sorted(sums.items()):
                metric.add_metric(labels, figures[place])
            yield metric

    def sums(self) -> dict[tuple[str, str], list[float]]:
        """Of each engine and outcome: attempts, images, GPU-seconds."""
        until, known = self.settled
        old = UsageEntry.objects.filter(pk__gt=until, created_at__lt=timezone.now() - SETTLED)
        if last := old.order_by("-pk").values_list("pk", flat=True).first():
            known = self._add(known, UsageEntry.objects.filter(pk__gt=until, pk__lte=last))
            self.settled = (until := last), known
        return self._add(known, UsageEntry.objects.filter(pk__gt=until))

    @staticmethod
    def _add(known: dict[tuple[str, str], list[float]], entries: Any) -> dict[tuple[str, str], list[float]]:
        sums = {labels: list(figures) for labels, figures in known.items()}
        rows = entries.order_by().values_list("engine", "outcome").annotate(
            Count("pk"), Sum("images"), Sum("gpu_seconds")
        )  # fmt: skip
        for engine, outcome, *figures in rows:
            before = sums.get((engine, outcome), [0.0, 0.0, 0.0])
            sums[engine, outcome] = [a + b for a, b in zip(before, figures, strict=True)]
        return sums


def _stages() -> Iterator[Metric]:
    """How long each stage took, on average of the newest jobs of each engine."""
    stages = {
        "waiting": F("started_at") - F("created_at"),
        "loading": F("load_seconds"), "drawing": F("draw_seconds"), "saving": F("save_seconds"),
    }  # fmt: skip
    samples = []
    for engine in ENGINES:
        done = Job.objects.filter(engine=engine, state=Job.State.SUCCEEDED).order_by("-id")[:NEWEST]
        of_newest = Job.objects.filter(pk__in=list(done.values_list("pk", flat=True)))
        means = of_newest.aggregate(**{stage: Avg(taken) for stage, taken in stages.items()})
        samples += [(engine, stage, _in_seconds(mean)) for stage, mean in means.items()]
    yield _gauge(
        "stage_seconds", f"Mean of the newest {NEWEST} jobs that went well.", ["engine", "stage"], samples
    )


def _in_seconds(taken: Any) -> float | None:
    return taken.total_seconds() if isinstance(taken, timedelta) else taken


def _failures() -> Metric:
    """By code, of the last hour; the ledger's counters go on for ever."""
    now = timezone.now()
    # Ids begin with the time, so an index leaves out what was asked for long ago.
    asked_since = UUID(int=int((now - timedelta(days=1)).timestamp() * 1000) << 80)
    failed = Job.objects.filter(pk__gt=asked_since, state=Job.State.FAILED).order_by()
    failed = failed.filter(finished_at__gt=now - timedelta(hours=1))
    rows = failed.values_list("engine", "error_code").annotate(Count("pk"))
    return _gauge("failures_last_hour", "Jobs that failed, by code.", ["engine", "code"], rows)


def _workers() -> Iterator[Metric]:
    alive = set(Worker.objects.alive().values_list("pk", flat=True))
    rows = list(Worker.objects.exclude(state=Worker.State.STOPPED))
    slot = ("host", "device", "engine")

    def named(worker: Worker, *rest: Any) -> tuple[Any, ...]:
        return (worker.host, worker.device, worker.engine, *rest)

    states = [
        named(row, row.state if row.pk in alive else "silent", row.mode, row.pk in alive) for row in rows
    ]
    yield _gauge("worker_up", "1 while it is heard of.", (*slot, "state", "mode"), states)
    beats = [named(row, (timezone.now() - row.heartbeat).total_seconds()) for row in rows]
    yield _gauge("worker_heartbeat_age_seconds", "Since it was heard of.", slot, beats)
    # What a silent one said last is not how it is.
    heard = [row for row in rows if row.pk in alive]
    adapters = [named(row, len(row.loras)) for row in heard]
    yield _gauge("worker_adapters", "LoRAs that it keeps ready.", slot, adapters)
    kinds = ("total", "free", "model", "loras")
    memory = [named(row, kind, getattr(row, f"memory_{kind}")) for row in heard for kind in kinds]
    yield _gauge("worker_memory_bytes", "Of its device, and of those it holds.", (*slot, "kind"), memory)
    busy = [named(row, row.utilisation) for row in heard]
    yield _gauge("worker_utilisation_ratio", "Of its GPU, whoever uses it.", slot, busy)
    warm = [named(row, row.celsius) for row in heard]
    yield _gauge("worker_temperature_celsius", "Of its GPU.", slot, warm)


def _checks() -> Iterator[Metric]:
    found = [(finding.name, finding.ok) for finding in health.findings()]
    yield _gauge("check_ok", "What /readyz looks at.", ["check"], found)


_studio = Studio()
