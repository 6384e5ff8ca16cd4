"""What the queue costs, beside stock django-q2 and a plain loop: ``python -m bench.queue``.

Real clusters of real processes, each on a fresh data directory and database. Where the queue is measured,
and not the drawing, the work of a job is to sleep, for fluxsite and for stock django-q2 alike; fluxsite
stores a grey picture besides. Stock django-q2 runs one worker, queue_limit=1, bulk=1, its ORM broker.
"""

import argparse
import io
import json
import multiprocessing
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from bench.processes import DATABASES, ROOT, Site, new_site, wait_until

rng = random.Random(1)  # noqa: S311 (nothing secret)
SMALL: dict[str, Any] = {"width": 64, "height": 64, "count": 1, "steps": 4, "engine": "bf16"}
FLUXSITE, STOCK, TUNED = "fluxsite", "stock django-q2", "stock, tuned"
_STOCK = {"workers": 1, "queue_limit": 1, "bulk": 1, "timeout": 3600, "retry": 3660, "scheduler": False}
# Tuned: as quick as polling gets before it costs a third of a core, and no log of what went well.
SYSTEMS: dict[str, dict[str, Any] | None] = {
    FLUXSITE: None,
    STOCK: _STOCK,
    TUNED: {**_STOCK, "poll": 0.01, "save_limit": -1},
}


@dataclass(frozen=True)
class Wanted:
    """Limits of a figure's numbers, in their order; ``least``: they are lower ones."""

    limits: tuple[float, ...]
    unit: str
    least: bool = False

    def holds(self, numbers: Sequence[float]) -> bool:
        pairs = zip(numbers, self.limits, strict=False)
        return all(number >= limit if self.least else number <= limit for number, limit in pairs)

    def text(self, numbers: Sequence[float]) -> str:
        return " / ".join(f"{number:.3g}" for number in numbers) + f" {self.unit}"

    def __str__(self) -> str:
        sign = "≥" if self.least else "≤"
        return f"{sign} {self.text(self.limits)}" if self.limits else ""


Figures = dict[str, tuple[float, ...]]
# Of two numbers the first is the median and the second the 95th percentile.
IDLE_TO_CLAIMED, IDLE_TO_BEGUN = "submit → claimed, idle", "submit → work begins, idle"
GAP, HELD = "end → next start", "held beyond the running job"
CLAIM, CLAIM_GROWTH = "claim, 10,000 queued", "claim, 10,000 against 10"
IDLE = "idle, of a core"
WHOLE, WHOLE_LARGE = "pictures against a plain loop, 128 px", "pictures against a plain loop, 256 px"
DRAWING = "drawing, of the time, 256 px"
PNG, PNG_BYTES = "PNG level 6 against 1, 1024 px", "PNG level 1 against 6, bytes"
THUMBNAIL, STORE = "thumbnail, 1024 px", "write, fsync, rename, 1024 px"
WANTED = {
    IDLE_TO_CLAIMED: Wanted((15, 40), "ms"),
    IDLE_TO_BEGUN: Wanted((), "ms"),
    GAP: Wanted((10, 30), "ms"),
    HELD: Wanted((0,), "jobs"),
    CLAIM: Wanted((20,), "ms"),
    CLAIM_GROWTH: Wanted((2,), "×"),
    IDLE: Wanted((2,), "%"),
    WHOLE: Wanted((1.15,), "×"),
    WHOLE_LARGE: Wanted((1.15,), "×"),
    DRAWING: Wanted((95,), "%", least=True),
    PNG: Wanted((), "×"),
    PNG_BYTES: Wanted((), "×"),
    THUMBNAIL: Wanted((), "ms"),
    STORE: Wanted((), "ms"),
}


def median_and_p95(seconds: Sequence[float]) -> tuple[float, float]:
    """In ms."""
    ordered = sorted(seconds)
    return statistics.median(ordered) * 1000, ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] * 1000


class Queue:
    """One of the systems on a site, seen from another process: this one."""

    def __init__(self, site: Site, stock: bool) -> None:
        from accounts.models import User

        self.site, self.stock = site, stock
        self.owner = User.objects.create_user("alice")

    def start(self) -> None:
        self.site.start(*(["qcluster"] if self.stock else ["workers", "--bf16", "cpu"]))

    def submit(self, name: str) -> None:
        if self.stock:
            from django_q.tasks import async_task

            async_task("bench.apps.work", name)
        else:
            from generation.models import Job

            Job.submit(self.owner, prompt=name, **SMALL)

    def waiting(self) -> int:
        """Jobs that no worker, and no cluster, has taken."""
        if self.stock:
            from django_q.brokers import get_broker

            return int(get_broker().queue_size())
        from generation.models import Job

        return Job.objects.filter(state="queued").count()

    def times(self, what: str) -> dict[str, float]:
        """When the work on each job had its ``start`` or ``end``, by the host's clock."""
        file = self.site.folder / "var" / "work.log"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return {name: float(when) for said, name, when in lines if said == what}

    def claimed_at(self, name: str) -> float:
        """When fluxsite's job was claimed, by the database's clock, which is the host's."""
        from generation.models import Job

        started = Job.objects.values_list("started_at", flat=True).get(prompt=name)
        assert started
        return started.timestamp()

    def wait(self, what: str, count: int) -> None:
        """Until so many jobs had their ``start`` or ``end``."""
        wait_until(lambda: len(self.times(what)) >= count)

    def warm_up(self) -> None:
        """The first job is not measured."""
        self.start()
        self.submit("first")
        self.wait("end", 1)
        time.sleep(1)


# The sections: each measures one system on one database, in a process of its own -------------------------


def idle_to_claimed(site: Site, stock: bool, quick: bool) -> Figures:
    """From just before the submit, here, to the claim and to the first line of the work, there.

    Stock django-q2 keeps no note of when it took a task.
    """
    queue = Queue(site, stock)
    queue.warm_up()
    waited, claimed = [], []
    for number in range(15 if quick else 100):
        time.sleep(rng.uniform(0.3, 0.6))  # out of step with whatever polls
        name, asked = str(number), time.time()
        queue.submit(name)
        queue.wait("end", number + 2)
        waited.append(queue.times("start")[name] - asked)
        if not stock:
            claimed.append(queue.claimed_at(name) - asked)
    begun: Figures = {IDLE_TO_BEGUN: median_and_p95(waited)}
    more: Figures = {} if stock else {IDLE_TO_CLAIMED: median_and_p95(claimed)}
    return more | begun


def gap(site: Site, stock: bool, quick: bool) -> Figures:
    """From the last line of the work to the first of the next, all jobs queued beforehand."""
    queue, names = Queue(site, stock), [str(number) for number in range(20 if quick else 100)]
    for name in names:
        queue.submit(name)
    queue.start()
    queue.wait("end", len(names))
    starts, ends = sorted(queue.times("start").values()), sorted(queue.times("end").values())
    return {GAP: median_and_p95([start - end for end, start in zip(ends, starts[1:], strict=False)])}


def held(site: Site, stock: bool, quick: bool) -> Figures:
    """The most jobs that were taken from the queue and not begun, looked at in the middle of each."""
    queue, names = Queue(site, stock), [str(number) for number in range(8)]
    for name in names:
        queue.submit(name)
    queue.start()
    most = 0
    for begun in range(1, 3 if quick else 5):
        queue.wait("start", begun)
        time.sleep(0.5)
        most = max(most, len(names) - queue.waiting() - begun)
    return {HELD: (most,)}


def idle(site: Site, stock: bool, quick: bool) -> Figures:
    """CPU time of all processes, the supervisor too, but not the database server's."""
    Queue(site, stock).warm_up()
    time.sleep(2)
    seconds = 5 if quick else 30
    before = _cpu_seconds(site)
    time.sleep(seconds)
    return {IDLE: (100 * (_cpu_seconds(site) - before) / seconds,)}


def _cpu_seconds(site: Site) -> float:
    times = [process.cpu_times() for process in site.processes()]
    return float(sum(time.user + time.system for time in times))


USERS, SETS = 200, 12
# Engines here, lists of tasks for stock django-q2.
FEW, MANY = "fp4", "bf16"


def claim(site: Site, stock: bool, quick: bool) -> Figures:
    """Taking a job, in this process; each is ended and another queued before the next.

    Two queues in one table, of 10 and of 10,000 jobs, asked in turn: these machines are faster at times.
    """
    take, fill = _stock_claim() if stock else _fluxsite_claim()
    fill(FEW, 10)
    fill(MANY, 10_000)
    turns = [(take(FEW), take(MANY)) for _ in range(20 if quick else 200)]
    few, many = zip(*turns, strict=True)
    return {
        CLAIM: median_and_p95(many),
        CLAIM_GROWTH: (statistics.median(many) / statistics.median(few),),
    }


def _fluxsite_claim() -> tuple[Callable[[str], float], Callable[[str, int], None]]:
    """Jobs of 200 users with a past, of 12 sets of LoRAs and none, of three priorities."""
    from django.utils import timezone

    from accounts.models import UsageEntry, User
    from generation.models import Job
    from gpu.models import Worker

    users = User.objects.bulk_create(User(username=f"user{number}") for number in range(USERS))
    sets = [f"{number:016x}" for number in range(SETS)]
    workers = {engine: Worker.start("here", "cpu", engine, 1) for engine in (FEW, MANY)}
    now = timezone.now()

    def drawn(minutes: float) -> tuple[Job, UsageEntry]:
        """A job of so long ago, and its entry in the ledger."""
        when, user = now - timedelta(minutes=minutes), rng.choice(users)
        job = Job(owner=user, prompt="a red circle", seed=1, **SMALL, state="succeeded", created_at=when)
        return job, UsageEntry(
            user=user, job=job.pk, attempt=1, engine="bf16", worker=str(workers[MANY]), outcome="succeeded",
            images=1, gpu_seconds=rng.uniform(1, 9), created_at=when,
        )  # fmt: skip

    # 20 jobs of each user in the last hour, and ten times as many before.
    ages = [rng.uniform(0, 60) for _ in range(20 * USERS)] + [
        rng.uniform(60, 9999) for _ in range(200 * USERS)
    ]
    jobs, entries = zip(*map(drawn, ages), strict=True)
    Job.objects.bulk_create(jobs, batch_size=1000)
    UsageEntry.objects.bulk_create(entries)

    def job(engine: str) -> Job:
        return Job(
            owner=rng.choice(users), prompt="a red circle", seed=1, **{**SMALL, "engine": engine},
            lora_set=rng.choice(["", "", *sets]), priority=rng.choice([0, 0, 0, 0, 1, -1]),
            created_at=timezone.now() - timedelta(seconds=rng.uniform(0, 600)),
        )  # fmt: skip

    def fill(engine: str, number: int) -> None:
        Job.objects.bulk_create((job(engine) for _ in range(number)), batch_size=1000)
        _analyse()

    def take(engine: str) -> float:
        start = time.perf_counter()
        claimed = Job.objects.claim(engine, workers[engine], sets[:3], "drawing")
        took = time.perf_counter() - start
        assert claimed
        Job.objects.finish(claimed, "succeeded", gpu_seconds=rng.uniform(1, 9))
        job(engine).save(force_insert=True)
        return took

    return take, fill


def _stock_claim() -> tuple[Callable[[str], float], Callable[[str, int], None]]:
    from django.utils import timezone
    from django_q.brokers import get_broker
    from django_q.models import OrmQ
    from django_q.tasks import async_task

    async_task("bench.apps.work", "1")
    payload = OrmQ.objects.get().payload
    brokers = {name: get_broker(name) for name in (FEW, MANY)}

    def fill(name: str, number: int) -> None:
        rows = (OrmQ(key=name, payload=payload, lock=timezone.now()) for _ in range(number))
        OrmQ.objects.bulk_create(rows, batch_size=1000)
        _analyse()

    def take(name: str) -> float:
        start = time.perf_counter()
        ((pk, _),) = brokers[name].dequeue()
        took = time.perf_counter() - start
        brokers[name].acknowledge(pk)
        brokers[name].enqueue(payload)
        return took

    return take, fill


def _analyse() -> None:
    """As PostgreSQL's autovacuum does within a minute; on SQLite nobody does."""
    from django.db import connection

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


class PlainLoop:
    """diffusers' FluxPipeline in this process, with one thread: the least that pictures cost."""

    def __init__(self) -> None:
        import torch
        from diffusers import FluxPipeline

        import gpu.engines.flux  # noqa: F401 (it quiets the libraries)
        from gpu.model_card import ModelCard

        torch.set_num_threads(1)
        self.torch, model = torch, str(ROOT / "demo" / "model")
        self.tokens = ModelCard.of(model).max_sequence_length
        self.pipeline: Any = FluxPipeline.from_pretrained(model, dtype=torch.bfloat16)
        self.pipeline.set_progress_bar_config(disable=True)

    def draw(self, prompt: str, side: int, steps: int = 4) -> Any:
        return self.pipeline(
            prompt=prompt, width=side, height=side, num_inference_steps=steps, guidance_scale=0.0,
            max_sequence_length=self.tokens, generator=self.torch.Generator("cpu").manual_seed(1),
        ).images[0]  # fmt: skip

    def run(self, prompts: Sequence[str], side: int, folder: Path) -> None:
        for number, prompt in enumerate(prompts):
            self.draw(prompt, side).save(folder / f"{number}.png", compress_level=1)


def _draw_all(queue: Queue, prompts: Sequence[str], side: int) -> None:
    """Submit a job for each prompt, and wait until all have succeeded."""
    from generation.models import Job

    asked = {**SMALL, "width": side, "height": side}
    jobs = [Job.submit(queue.owner, prompt=prompt, seed=1, **asked).pk for prompt in prompts]
    mine = Job.objects.filter(pk__in=jobs)
    wait_until(lambda: mine.filter(state="succeeded").count() == len(jobs), 600)


def whole(site: Site, stock: bool, quick: bool) -> Figures:
    """200 demo pictures of a size, 4 steps, in turns of 20: first submit to last row and file."""
    queue, plain = Queue(site, stock), PlainLoop()
    queue.start()
    turns = 2 if quick else 10
    return {
        WHOLE: (_against_plain(queue, plain, 128, turns),),
        WHOLE_LARGE: (_against_plain(queue, plain, 256, turns),),
    }


def _against_plain(queue: Queue, plain: PlainLoop, side: int, turns: int) -> float:
    _draw_all(queue, ["a red circle"], side)
    plain.draw("a red circle", side)
    ours, bare = 0.0, 0.0
    for turn in range(turns):
        prompts = [f"a big yellow star on a blue background {turn} {number}" for number in range(20)]
        start = time.perf_counter()
        plain.run(prompts, side, queue.site.folder)
        middle = time.perf_counter()
        _draw_all(queue, prompts, side)
        bare, ours = bare + middle - start, ours + time.perf_counter() - middle
    return ours / bare


def drawing(site: Site, stock: bool, quick: bool) -> Figures:
    """The jobs' draw_seconds, in all, from the first start to the last end of one slot with 50 queued."""
    from django.db.models import Max, Min, Sum

    from generation.models import Job

    queue = Queue(site, stock)
    queue.start()
    _draw_all(queue, ["a red circle"], 256)
    warm = Job.objects.get()
    _draw_all(queue, [f"a small green ring {number}" for number in range(10 if quick else 50)], 256)
    facts = Job.objects.exclude(pk=warm.pk).aggregate(
        drawn=Sum("draw_seconds"), first=Min("started_at"), last=Max("finished_at")
    )
    return {DRAWING: (100 * facts["drawn"] / (facts["last"] - facts["first"]).total_seconds(),)}


def saving(site: Site, stock: bool, quick: bool) -> Figures:
    """What is done beside the drawing for a picture of 1024 px; the median of ten."""
    from django.core.files.base import ContentFile
    from django.core.files.storage import default_storage

    from generation.pictures import thumbnail_bytes

    picture = PlainLoop().draw("a big yellow star on a blue background", 1024, 1 if quick else 4)

    def png(level: int) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=level)
        return buffer.getvalue()

    def seconds(action: Callable[[], Any]) -> list[float]:
        took = []
        for _ in range(10):
            start = time.perf_counter()
            action()
            took.append(time.perf_counter() - start)
        return took

    quick_png, small_png = png(1), png(6)
    return {
        PNG: (statistics.median(seconds(lambda: png(6))) / statistics.median(seconds(lambda: png(1))),),
        PNG_BYTES: (len(quick_png) / len(small_png),),
        THUMBNAIL: median_and_p95(seconds(lambda: thumbnail_bytes(picture))),
        STORE: median_and_p95(seconds(lambda: default_storage.save("bench.png", ContentFile(quick_png)))),
    }


@dataclass(frozen=True)
class Section:
    measure: Callable[[Site, bool, bool], Figures]
    # Seconds that a job's work sleeps; 0: the demo model draws.
    sleep: float = 0
    # Whether stock django-q2 can be asked the same.
    compared: bool = True


SECTIONS = {
    "claimed": Section(idle_to_claimed, 0.05),
    "gap": Section(gap, 0.05),
    "held": Section(held, 1),
    "claim": Section(claim, 0.05),
    "idle": Section(idle, 0.05),
    "whole": Section(whole, compared=False),
    "drawing": Section(drawing, compared=False),
    "saving": Section(saving, compared=False),
}


# All of it -----------------------------------------------------------------------------------------------


def measure(name: str, database: str, system: str, quick: bool) -> Figures:
    """Runs in a process of its own: Django is set up once in a process."""
    section, options = SECTIONS[name], SYSTEMS[system]
    environment = {"BENCH_STAND_IN_SECONDS": str(section.sleep)} if section.sleep else {}
    if options:
        environment["BENCH_STOCK"] = json.dumps(options)
    with new_site(database, **environment) as site:
        site.enter()
        return section.measure(site, options is not None, quick)


def in_a_process(*asked: Any) -> Figures:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *asked).result()


def table(results: dict[tuple[str, str], Figures]) -> str:
    """``results``: of each database and system."""
    lines = [f"| figure | database | wanted | {' | '.join(['fluxsite', 'holds', *list(SYSTEMS)[1:]])} |"]
    lines.append("|---" * (4 + len(SYSTEMS)) + "|")
    for what, wanted in WANTED.items():
        for database in DATABASES:
            numbers = [results.get((database, system), {}).get(what) for system in SYSTEMS]
            if not any(numbers):
                continue
            cells = [wanted.text(each) if each else "" for each in numbers]
            holds = ("yes" if wanted.holds(numbers[0]) else "**no**") if numbers[0] and wanted.limits else ""
            cells.insert(1, holds)
            lines.append(f"| {what} | {database} | {wanted} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    options.add_argument("--only", choices=SECTIONS, nargs="+", default=list(SECTIONS))
    options.add_argument("--quick", action="store_true", help="fewer repetitions, to see whether it works")
    chosen = options.parse_args()
    databases = DATABASES if chosen.database == "both" else (chosen.database,)
    results: dict[tuple[str, str], Figures] = {}
    for name in chosen.only:
        for database in databases:
            for system in SYSTEMS if SECTIONS[name].compared else [FLUXSITE]:
                figures = in_a_process(name, database, system, chosen.quick)
                results.setdefault((database, system), {}).update(figures)
                said = ", ".join(f"{what}: {WANTED[what].text(each)}" for what, each in figures.items())
                print(f"{database}, {system}: {said}", flush=True)
    print(f"\n{psutil.cpu_count()} cores, {platform.machine()}. Two numbers: median / 95th percentile.")
    print(f"Tuned: {json.dumps(SYSTEMS[TUNED])}\n\n{table(results)}")


if __name__ == "__main__":
    main()
