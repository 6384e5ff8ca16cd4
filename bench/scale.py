"""How many workers one PostgreSQL bears: ``python -m bench.scale``.

Workers that draw nothing: each claims a job, is busy for half a second with the questions and records of a
real one, enters a picture and ends the job. The claims, heartbeats and ends are the product's own. All of it
shares this machine's cores with the server, so the table says what each side spends on a job: from that
follows where either ends by itself.
"""

import argparse
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from bench.processes import Site, new_site, wait_until

DRAWING_SECONDS, STEPS, USERS = 0.5, 4, 50
HEARTBEAT_SECONDS = 5.0
SIZES = (1, 4, 16, 64, 128, 256)
# Threads of one process share Python's lock, and a claim is a few ms of Python.
THREADS_OF_A_PROCESS = 32
# For the pages, housekeeping, and whoever looks at the database.
SPARE_CONNECTIONS = 28


@dataclass(frozen=True)
class Run:
    """What so many workers did. Seconds; CPU seconds for each job."""

    workers: int
    jobs: int
    seconds: float
    claims: Sequence[float]
    ends: Sequence[float]
    ours: float
    servers: float

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds

    @property
    def wanted(self) -> float:
        """Jobs a second if claiming and ending took no time."""
        return self.workers / DRAWING_SECONDS


class Busy:
    """One worker on a slot of its own, until the time is up."""

    def __init__(self, number: int, until: float) -> None:
        from gpu.models import Worker

        self.until = until
        self.row = Worker.start(f"host-{number // 8}", f"gpu-{number % 8}", "bf16", os.getpid())
        self.beaten = time.monotonic()
        self.claims: list[float] = []
        self.ends: list[float] = []

    def run(self) -> tuple[list[float], list[float]]:
        from django.db import connection

        from generation.models import Job

        while time.monotonic() < self.until:
            start = time.perf_counter()
            job = Job.objects.claim("bf16", self.row, stage="drawing")
            self.claims.append(time.perf_counter() - start)
            if job is None:
                raise RuntimeError("The queue ran empty: queue more jobs")
            self._draw(job)
        connection.close()
        return self.claims, self.ends

    def _draw(self, job: Any) -> None:
        from generation.models import Image, Job

        for _ in range(STEPS):
            time.sleep(DRAWING_SECONDS / STEPS)
            Job.objects.goes_on(job.pk, job.attempt)
        if time.monotonic() - self.beaten > HEARTBEAT_SECONDS:
            self.beaten = time.monotonic()
            Job.objects.keep(job.pk, job.attempt)
            self.row.now()
        start = time.perf_counter()
        Image.objects.create(
            job=job, owner_id=job.owner_id, index=0, seed=1, width=64, height=64, model="none",
            backend="none", file="none", thumbnail="none", sha256="0" * 64, size=1,
            words=job.prompt, facts=f"u{job.owner_id} bf16",
        )  # fmt: skip
        Job.objects.finish(job, "succeeded", gpu_seconds=DRAWING_SECONDS)
        self.ends.append(time.perf_counter() - start)


def work(numbers: Sequence[int], seconds: float) -> tuple[list[float], list[float], float]:
    """Those workers as threads of this process; the times of claims and ends, and CPU seconds."""
    until, before = time.monotonic() + seconds, time.process_time()
    with ThreadPoolExecutor(len(numbers)) as threads:
        done = list(threads.map(lambda number: Busy(number, until).run(), numbers))
    claims = [each for claims, _ in done for each in claims]
    ends = [each for _, ends in done for each in ends]
    return claims, ends, time.process_time() - before


def measure(workers: int, seconds: float) -> Run:
    numbers = list(range(workers))
    shares = [numbers[at : at + THREADS_OF_A_PROCESS] for at in range(0, workers, THREADS_OF_A_PROCESS)]
    _fill(int(workers / DRAWING_SECONDS * seconds * 1.2) + 10)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), context, _enter) as processes, _servers_time() as servers:
        done = list(processes.map(work, shares, [seconds] * len(shares)))
    claims = [each for claims, _, _ in done for each in claims]
    ends = [each for _, ends, _ in done for each in ends]
    ours = sum(cpu for _, _, cpu in done)
    return Run(workers, len(ends), seconds, claims, ends, ours / len(ends), servers() / len(ends))


def _enter() -> None:
    import django

    django.setup()


@contextmanager
def _servers_time() -> Iterator[Any]:
    """CPU seconds of the server's processes, those that end meanwhile too."""
    port = os.environ["FLUXSITE_DATABASE_URL"].rpartition(":")[2].partition("/")[0]
    postmaster = next(each for each in psutil.process_iter() if _listens(each, port))
    spent: dict[int, float] = {}
    before: dict[int, float] = {}
    done = threading.Event()

    def look(into: dict[int, float]) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in [postmaster, *postmaster.children()]:
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    into[process.pid] = times.user + times.system

    def watch() -> None:
        while not done.wait(0.2):
            look(spent)

    look(before)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: sum(seconds - before.get(pid, 0.0) for pid, seconds in spent.items())
    finally:
        done.set()
        watcher.join()


def _listens(process: psutil.Process, port: str) -> bool:
    try:
        return process.name() == "postgres" and port in process.cmdline()
    except psutil.Error:
        return False


def _fill(count: int) -> None:
    from django.db import connection

    from accounts.models import User
    from generation.models import Job

    users = list(User.objects.all()) or User.objects.bulk_create(
        User(username=f"user{number}") for number in range(USERS)
    )
    asked = {"prompt": "a red circle", "width": 64, "height": 64, "seed": 1, "engine": "bf16"}
    jobs = (Job(owner=users[number % USERS], **asked) for number in range(count))
    Job.objects.bulk_create(jobs, batch_size=2000)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)]


def table(runs: Sequence[Run]) -> str:
    lines = [
        "| workers | jobs a second | of those wanted | claim, median / p95 | end, median / p95 "
        "| CPU a job: workers | PostgreSQL |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        claim, end = (
            f"{statistics.median(times) * 1000:.1f} / {p95(times) * 1000:.1f} ms"
            for times in (run.claims, run.ends)
        )
        lines.append(
            f"| {run.workers} | {run.rate:.1f} | {100 * run.rate / run.wanted:.0f} % | {claim} | {end} "
            f"| {run.ours * 1000:.1f} ms | {run.servers * 1000:.1f} ms |"
        )
    return "\n".join(lines)


def connections_of_a_worker(site: Site) -> int:
    """How many a real one holds, once it has drawn: its cluster has several processes and threads."""
    from generation.models import Job

    before = _connections()
    worker = site.start("workers", "--bf16", "cpu")
    _fill(1)
    wait_until(lambda: not Job.objects.exclude(state="succeeded").exists())
    held = _connections() - before
    worker.terminate()
    worker.wait()
    return held


def _connections() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def conclusion(runs: Sequence[Run], connections: int) -> str:
    """Where it ends, and what would move that."""
    best = max(runs, key=lambda run: run.rate)
    keeps_up = [run.workers for run in runs if run.rate >= 0.9 * run.wanted]
    cores = psutil.cpu_count() or 1
    each = 1 / best.servers
    return (
        f"Connections: {connections} of a real worker, so 100, PostgreSQL's default, are enough for "
        f"{(100 - SPARE_CONNECTIONS) // connections} workers.\n"
        f"Here, {cores} cores for workers and server together: at most {best.rate:.0f} jobs a second, with "
        f"{best.workers} workers; up to {max(keeps_up, default=0)} workers do 90 % of what they could.\n"
        f"The server alone: {best.servers * 1000:.1f} ms of CPU a job, so about {each:.0f} jobs a second for "
        f"each core of its own: {each * DRAWING_SECONDS:.0f} workers at {DRAWING_SECONDS:g} s a picture.\n"
        "Next: a host of its own for PostgreSQL; then a claim in one round trip, as the claims of an engine "
        "wait for each other; then a studio for each group of people."
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", type=int, nargs="+", default=SIZES)
    options.add_argument("--seconds", type=float, default=15, help="for each number of workers")
    chosen = options.parse_args()
    with new_site("postgresql") as site:
        site.enter()
        connections = connections_of_a_worker(site)
        runs = []
        for workers in chosen.workers:
            runs.append(measure(workers, chosen.seconds))
            print(f"{workers} workers: {runs[-1].rate:.1f} jobs a second", flush=True)
        print(f"\n{table(runs)}\n\n{conclusion(runs, connections)}")


if __name__ == "__main__":
    main()
