"""Kill anything, at any moment, and see whether a job is lost: ``python -m bench.chaos``.

A whole studio, ``manage.py up`` with both engines on the CPU, under a parent that starts it again when it is
the one that was killed. Jobs come through the API while processes get SIGKILL. Afterwards everything is
counted; the exit status is 1 if a promise is broken. Nothing of the product is changed but the names of
django-q2's processes.
"""

import argparse
import contextlib
import hashlib
import itertools
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import PIL.Image
import psutil
import requests

from bench.processes import DATABASES, Site, new_site, wait_until

LEASE_SECONDS = 4
# So many that nothing fails because we killed its workers too often while they drew.
MAX_ATTEMPTS = 50
USERS = ("alice", "bob", "charlie")
PROMPTS = ("a big yellow star on a blue background", "a red circle", "a small green ring")
# How often each kind is killed, compared with the others; those not named 1.
WEIGHTS = {"supervisor": 0.1, "worker": 3.0}
PATIENCE_SECONDS = 240
STOP_SECONDS = 60


class Keeper(threading.Thread):
    """The parent of ``manage.py up``, as systemd would be."""

    def __init__(self, site: Site, port: int) -> None:
        super().__init__(daemon=True)
        self.site, self.port = site, port
        self.stops = threading.Event()
        self.starts = 0
        self._start_up()

    def _start_up(self) -> None:
        self.starts += 1
        options = ("--port", str(self.port), "--bf16", "cpu", "--fp4", "cpu")
        self.up = self.site.start("up", *options, log=self.log_name)

    @property
    def log_name(self) -> str:
        return f"up-{self.starts}.log"

    def run(self) -> None:
        while not self.stops.wait(0.2):
            if self.up.poll() is not None:
                self._start_up()

    def url(self) -> str | None:
        """Where the studio is; it takes the next port while the one before still closes."""
        found = re.search(r"fluxsite is at (http://\S+)", (self.site.folder / self.log_name).read_text())
        return found.group(1) if found else None

    def stop(self) -> bool:
        """As Ctrl-C does; whether it stopped."""
        self.stops.set()
        self.join()
        self.up.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.up.wait(STOP_SECONDS)
        return self.up.returncode is not None


def parts(top: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    """The processes of a studio, each with what it is. Those that are being born are left out."""
    yield "supervisor", top
    for child in top.children():
        with contextlib.suppress(psutil.Error):
            if "gunicorn" in child.cmdline():
                yield "web master", child
                yield from (("web worker", process) for process in child.children())
            elif "qcluster" in child.cmdline():
                yield from _cluster(child)


def _cluster(main: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    below = [(process.name(), process) for process in main.children(recursive=True)]
    there = [("main", main), *below]
    is_housekeeping = main.environ().get("Q_CLUSTER_NAME") == "fluxsite"
    for name, process in there:
        if name in ("main", "sentinel", "worker", "monitor", "pusher"):
            yield "housekeeping" if is_housekeeping else name, process


@dataclass
class Run:
    """What happened. Written by several threads; each only adds."""

    site: Site
    keeper: Keeper
    jobs: int
    kills: int
    killed: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    accepted: list[UUID] = field(default_factory=list)
    cancels: set[UUID] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def may_submit(self) -> bool:
        """Jobs come as the kills do, so that both are over together."""
        return len(self.accepted) < min(self.jobs, self.jobs * (self.killed.total() + 1) / self.kills)


class Submitter(threading.Thread):
    """Somebody who asks for pictures, and sometimes cancels."""

    def __init__(self, run: Run, token: str, slugs: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self.run_, self.slugs, self.rng = run, slugs, random.Random(seed)  # noqa: S311 (nothing secret)
        self.headers = {"Authorization": f"Bearer {token}"}

    def run(self) -> None:
        while len(self.run_.accepted) < self.run_.jobs:
            if not self.run_.may_submit():
                time.sleep(0.05)
                continue
            answer = self._post("jobs/", self._job())
            if answer is None or answer.status_code != 201:
                time.sleep(0.2)
                continue
            pk = UUID(answer.json()["id"])
            self.run_.accepted.append(pk)
            if self.rng.random() < 0.1:
                threading.Timer(self.rng.uniform(0, 2), self._cancel, [pk]).start()

    def _job(self) -> dict[str, Any]:
        loras = self.rng.sample(self.slugs, self.rng.choice([0, 0, 1, 2]))
        return {
            "prompt": self.rng.choice(PROMPTS),
            "width": 64,
            "height": 64,
            "count": self.rng.choice([1, 2]),
            "steps": self.rng.choice([2, 3, 4]),
            "engine": self.rng.choice(["bf16", "fp4"]),
            "loras": [{"slug": slug, "weight": 0.7} for slug in loras],
        }

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response | None:
        """The answer; None where there was none, and the job may be queued or not."""
        url = self.run_.keeper.url()
        if url is None:
            return None
        try:
            answer = requests.post(f"{url}/api/v1/{path}", json=body, headers=self.headers, timeout=20)
        except requests.RequestException:
            self.run_.answers["none"] += 1
            return None
        self.run_.answers[str(answer.status_code)] += 1
        return answer

    def _cancel(self, pk: UUID) -> None:
        """Ask until there is an answer: 200, or 409 if it is over."""
        self.run_.cancels.add(pk)
        for _ in range(100):
            answer = self._post(f"jobs/{pk}/cancel/", {})
            if answer is not None and answer.status_code in (200, 409):
                return
            time.sleep(0.3)


class Observer(threading.Thread):
    """Sees to it that what has ended stays as it ended."""

    def __init__(self, run: Run) -> None:
        super().__init__(daemon=True)
        self.run_ = run
        self.ended: dict[UUID, tuple[Any, ...]] = {}
        self.resumed = 0
        self.stops = threading.Event()

    def run(self) -> None:
        while not self.stops.wait(0.5):
            self.look()

    def look(self) -> None:
        from generation.models import Job
        from gpu.models import Mode, Worker

        now = {
            pk: (state, finished, attempt)
            for pk, state, finished, attempt in Job.objects.filter(state__in=Job.FINAL).values_list(
                "pk", "state", "finished_at", "attempt"
            )
        }
        for pk, was in self.ended.items():
            if now.get(pk) != was:
                self.run_.broken.append(f"ended twice: job {pk} was {was}, is {now.get(pk)}")
        self.ended = now
        # A slot that we killed five times in a row while it loaded is paused; an operator resumes it.
        self.resumed += Worker.objects.filter(mode=Mode.PAUSE).update(mode=Mode.RUN, note="")


# Afterwards ----------------------------------------------------------------------------------------------


def lost(run: Run) -> Iterator[str]:
    from generation.models import Job

    states = dict(Job.objects.values_list("pk", "state"))
    for pk in run.accepted:
        if pk not in states:
            yield f"lost: job {pk} was answered 201 and does not exist"
    for pk, state in states.items():
        if state not in Job.FINAL:
            yield f"lost: job {pk} is {state} still"
        if state == "cancelled" and pk not in run.cancels:
            yield f"lost: job {pk} is cancelled, and nobody asked for it"
    for pk, code, error in Job.objects.filter(state="failed").values_list("pk", "error_code", "error"):
        yield f"lost: job {pk} failed: {code}, {error}"


def wrong_entries() -> Iterator[str]:
    from accounts.models import UsageEntry
    from generation.models import Job

    entries: dict[UUID, dict[int, str]] = {}
    for entry in UsageEntry.objects.order_by("attempt"):
        entries.setdefault(entry.job, {})[entry.attempt] = entry.outcome
    for job in Job.objects.all():
        outcomes = entries.pop(job.pk, {})
        if list(outcomes) != list(range(1, job.attempt + 1)):
            yield f"ledger: job {job.pk} had {job.attempt} attempts; entries: {outcomes}"
        wanted = [job.attempt] if job.state == "succeeded" else []
        if [attempt for attempt, outcome in outcomes.items() if outcome == "succeeded"] != wanted:
            yield f"ledger: job {job.pk} is {job.state} at attempt {job.attempt}; entries: {outcomes}"
    for pk in entries:
        yield f"ledger: entries of job {pk}, which does not exist"


def wrong_pictures() -> Iterator[str]:
    from generation.models import Job

    # What the trial of a LoRA drew, nobody's, is not kept.
    kept = Job.objects.filter(state="succeeded").exclude(owner=None)
    for job in kept.prefetch_related("images"):
        indexes = sorted(image.index for image in job.images.all())
        if indexes != list(range(job.count)):
            yield f"pictures: job {job.pk} of {job.count} has {indexes}"


def wrong_files(media: Path) -> Iterator[str]:
    from generation.models import Image

    there = {str(path.relative_to(media)): path for path in files(media) if not is_temporary(path)}
    for image in Image.objects.all():
        for name in (image.file.name, image.thumbnail.name):
            path = there.pop(str(name), None)
            if path is None:
                yield f"file: {name} of picture {image.pk} is missing"
            elif fault := _fault(path, image.sha256 if path.suffix == ".png" else ""):
                yield f"file: {name} is half: {fault}"
    for name in there:
        yield f"file: {name} is an orphan"


def _fault(path: Path, sha256: str) -> str:
    if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        return "another hash"
    try:
        with PIL.Image.open(path) as picture:
            picture.load()
    except OSError as error:
        return str(error)
    return ""


def files(media: Path) -> list[Path]:
    return [path for path in (media / "images").rglob("*") if path.is_file()]


def is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")


# All of it -----------------------------------------------------------------------------------------------


def kill_at_random(run: Run, every: float, rng: random.Random) -> None:
    """Until both numbers are reached; ``every``: seconds between two kills, on average."""
    while run.killed.total() < run.kills:
        time.sleep(rng.expovariate(1 / every))
        with contextlib.suppress(psutil.NoSuchProcess):
            there: dict[str, list[psutil.Process]] = {}
            for kind, process in parts(psutil.Process(run.keeper.up.pid)):
                there.setdefault(kind, []).append(process)
            kinds = list(there)
            (kind,) = rng.choices(kinds, [WEIGHTS.get(kind, 1.0) for kind in kinds])
            rng.choice(there[kind]).kill()
            run.killed[kind] += 1
            if sys.stdout.isatty():
                print(f"\r{run.killed.total()} kills, {len(run.accepted)} jobs ", end="", flush=True)


def wait_for_the_end(run: Run, observer: Observer) -> None:
    """Until no job waits or runs; gives up when nothing has ended for minutes."""
    from generation.models import Job

    last, since = -1, time.monotonic()
    while len(run.accepted) < run.jobs or Job.objects.active().exists():
        if (ended := len(observer.ended)) != last:
            last, since = ended, time.monotonic()
        if time.monotonic() - since > PATIENCE_SECONDS:
            run.broken.append(f"nothing has ended for {PATIENCE_SECONDS} s")
            return
        time.sleep(0.2)


def report(run: Run, media: Path, seconds: float) -> None:
    from generation.models import Image, Job

    asked = Job.objects.exclude(owner=None)
    states = Counter(asked.values_list("state", flat=True))
    attempts = Counter(asked.values_list("attempt", flat=True))
    delays = sorted((job.finished_at - job.created_at).total_seconds() for job in asked if job.finished_at)
    temporary = sum(map(is_temporary, files(media)))
    print(f"\rkilled {run.killed.total()}: {told(run.killed)}")
    print(f"answers to {run.answers.total()} requests: {told(run.answers)}")
    print(f"{len(run.accepted)} jobs answered 201; {sum(states.values())} in the table: {told(states)}")
    print(f"attempts: {', '.join(f'{number} × {jobs}' for number, jobs in sorted(attempts.items()))}")
    deaths = Counter(asked.values_list("deaths", flat=True))
    print(f"deaths while drawing: {', '.join(f'{n} × {jobs}' for n, jobs in sorted(deaths.items()))}")
    print(f"{Image.objects.count()} pictures; {temporary} temporary files left, named as such")
    if delays:
        print(f"submit → end: median {delays[len(delays) // 2]:.1f} s, longest {delays[-1]:.1f} s")
    print(f"the studio was started {run.keeper.starts} times; all of it took {seconds:.0f} s")


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.most_common())


def chaos(site: Site, chosen: argparse.Namespace) -> list[str]:
    """Returns the broken promises."""
    from accounts.models import User
    from loras.models import Lora
    from operations import leftovers
    from operations.models import Kind

    for user in USERS:
        User.objects.create_user(user)
    tokens = [site.manage("create_token", user) for user in USERS]
    start, rng = time.monotonic(), random.Random(chosen.seed)  # noqa: S311 (nothing secret)
    run = Run(site, Keeper(site, chosen.port), chosen.jobs, chosen.kills)
    wait_until(lambda: run.keeper.url() is not None)
    slugs = list(Lora.objects.values_list("slug", flat=True))
    observer = Observer(run)
    submitters = [
        Submitter(run, token, slugs, chosen.seed + number)
        for number, token in zip(range(4), itertools.cycle(tokens))
    ]
    for thread in (run.keeper, observer, *submitters):
        thread.start()
    kill_at_random(run, chosen.every, rng)
    wait_for_the_end(run, observer)
    seconds = time.monotonic() - start
    observer.stops.set()
    observer.join()
    observer.look()
    if not run.keeper.stop():
        run.broken.append(f"Ctrl-C did not stop it within {STOP_SECONDS} s")
    left = [f"left running: {described(process)}" for process in site.processes()]
    media = site.folder / "media"
    report(run, media, seconds)
    print(f"{observer.resumed} times a slot was paused, because it was killed while it loaded, and resumed")
    # As the cleanup does, without its wait: what a worker wrote and was killed before it could enter.
    unnamed = [one for kind in (Kind.ORPHANS, Kind.TEMPORARY) for one in leftovers.SOURCES[kind]()]
    print(f"{sum(one.delete() for one in unnamed)} files that no row names were deleted")
    return [*run.broken, *lost(run), *wrong_entries(), *wrong_pictures(), *wrong_files(media), *left]


def described(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        cluster = process.environ().get("Q_CLUSTER_NAME", "")
        return f"{process.pid}, child of {process.ppid()}: {' '.join(process.cmdline()[1:4])} {cluster}"
    return str(process.pid)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=500)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--every", type=float, default=3, help="seconds between two kills, on average")
    options.add_argument("--database", choices=DATABASES, default="sqlite")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--port", type=int, default=18700)
    options.add_argument("--keep", type=Path, help="copy logs and data there if a promise is broken")
    chosen = options.parse_args()
    settings = {
        "FLUXSITE_LEASE_SECONDS": str(LEASE_SECONDS),
        "FLUXSITE_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
    }
    print(f"{chosen.database}, seed {chosen.seed}, {settings} (so many attempts that our kills fail no job)")
    with new_site(chosen.database, **settings) as site:
        site.enter()
        broken = chaos(site, chosen)
        if broken and chosen.keep:
            shutil.copytree(site.folder, chosen.keep, dirs_exist_ok=True)
    print("\n".join(broken) or "0 lost, 0 ended twice, 0 orphan or half files, nothing left running")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
