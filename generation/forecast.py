"""How long a job will take and wait, learned from the jobs before it.

Everything here is an estimate, None where nothing is known yet.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from uuid import UUID, uuid4

from django.core.cache import cache
from django.utils import timezone

from generation.models import Job
from generation.order import STEP_SECONDS
from gpu.models import Mode, Pool, Worker

# Of how many jobs of an engine is learned, the newest ones.
LEARNED_FROM = 100
# Many pages ask the same within a moment.
KEPT_SECONDS = 2


@dataclass(frozen=True)
class Place:
    """Of a waiting job. ``position``: 1 is the next one. ``wait``: seconds until it starts."""

    position: int
    wait: float | None


@dataclass(frozen=True)
class _Learned:
    """``exact``: seconds a picture by (width, height, steps). ``rate``: seconds by pixel and step."""

    exact: dict[tuple[int, int, int], float]
    rate: float
    usual: float


def seconds_of(job: Job) -> float | None:
    """How long drawing and saving ``job`` will take."""
    learned = _learned(job.engine)
    if learned is None:
        return None
    each = learned.exact.get(
        (job.width, job.height, job.steps), learned.rate * job.width * job.height * job.steps
    )
    return each * job.count


def usual_seconds(engine: str) -> float | None:
    """How long a job of ``engine`` takes, in the middle."""
    learned = _learned(engine)
    return learned.usual if learned else None


def _learned(engine: str) -> _Learned | None:
    """None until a job of ``engine`` has succeeded."""
    key = f"learned-{engine}"
    if key not in cache:
        cache.set(key, _learn(engine), KEPT_SECONDS)
    learned: _Learned | None = cache.get(key)
    return learned


def _learn(engine: str) -> _Learned | None:
    drawn = Job.objects.filter(engine=engine, state=Job.State.SUCCEEDED, attempt=1, draw_seconds__gt=0)
    rows = drawn.order_by("-id").values_list(
        "width", "height", "steps", "count", "draw_seconds", "save_seconds"
    )
    each = defaultdict(list)
    rates, whole = [], []
    for width, height, steps, count, drawing, saving in rows[:LEARNED_FROM]:
        seconds = (drawing or 0.0) + (saving or 0.0)
        each[width, height, steps].append(seconds / count)
        rates.append(seconds / (width * height * steps * count))
        whole.append(seconds)
    if not whole:
        return None
    return _Learned({size: median(times) for size, times in each.items()}, median(rates), median(whole))


def places(engine: str) -> Mapping[UUID, Place]:
    """The place of every waiting job of ``engine``, as if nobody sent another one."""
    key = f"places-{engine}"
    reading = cache.get(key)
    if reading is None or reading != _read.get(engine, ("", {}))[0]:
        reading = uuid4().hex
        _read[engine] = reading, dict(_places(engine))
        cache.set(key, reading, KEPT_SECONDS)
    return _read[engine][1]


# The last reading of each engine's places. The cache says whether it is still good, and does not hold it: it
# would copy all of it at each question, a third of the time of a poll with 300 jobs waiting.
_read: dict[str, tuple[str, dict[UUID, Place]]] = {}


def place_of(job: Job) -> Place | None:
    """The place of one waiting job; None once it waits no more.

    Of one that came since all were read: by its age alone, and the wait as if it came last. To read all again
    for each new job would cost more than to submit it, the more the longer the queue.
    """
    found = places(job.engine)
    if job.pk in found:
        return found[job.pk]
    queued = Job.objects.queued(job.engine)
    if not queued.filter(pk=job.pk).exists():
        return None
    return Place(queued.filter(pk__lt=job.pk).count() + 1, _wait_behind(found, job.engine))


def wait_now(engine: str) -> float | None:
    """How long a new job of ``engine`` would wait if it came last."""
    return _wait_behind(places(engine), engine)


def _wait_behind(found: Mapping[UUID, Place], engine: str) -> float | None:
    waits = [place.wait for place in found.values()]
    known = [wait for wait in waits if wait is not None]
    if len(known) < len(waits):
        return None
    if known:
        return max(known) + (usual_seconds(engine) or 0.0)
    return min(_free_slots(engine), default=None)


def _places(engine: str) -> Iterator[tuple[UUID, Place]]:
    usual = usual_seconds(engine)
    slots = _free_slots(engine)
    for position, (pk, expected) in enumerate(_in_order(engine, usual or 0), start=1):
        if not slots or usual is None:
            yield pk, Place(position, None)
            continue
        wait = heapq.heappop(slots)
        heapq.heappush(slots, wait + expected)
        yield pk, Place(position, wait)


def _free_slots(engine: str) -> list[float]:
    """For each slot that takes jobs, the seconds until it is free and its model is in memory; a heap."""
    now = timezone.now()
    held = {
        job.worker_id: max(0.0, (job.expected_seconds or 0) - (now - (job.started_at or now)).total_seconds())
        for job in Job.objects.filter(engine=engine, state=Job.State.RUNNING)
    }
    if Pool.of(engine).mode != Mode.RUN:
        return []
    working = Worker.objects.alive().filter(engine=engine, mode=Mode.RUN).exclude(state=Worker.State.WAITING)
    slots = [
        (0.0 if worker.model else worker.load_seconds or 0.0) + held.get(worker.pk, 0.0) for worker in working
    ]
    heapq.heapify(slots)
    return slots


def _in_order(engine: str, usual: float) -> Iterator[tuple[UUID, float]]:
    """Waiting jobs in the order in which ``generation.order`` gives them, but for warm LoRAs."""
    lines: dict[int, dict[int, deque[tuple[UUID, float]]]] = {}
    waiting = Job.objects.queued(engine).order_by("-priority", "created_at", "id")
    for pk, owner, priority, expected in waiting.values_list("pk", "owner", "priority", "expected_seconds"):
        lines.setdefault(priority, {}).setdefault(owner, deque()).append((pk, expected or usual))
    owners = {owner for line in lines.values() for owner in line}
    used = Job.objects.recent_seconds(owners)
    for line in lines.values():
        turns = [(used[owner] // STEP_SECONDS, jobs[0][0], owner) for owner, jobs in line.items()]
        heapq.heapify(turns)
        while turns:
            _, _, owner = heapq.heappop(turns)
            pk, expected = line[owner].popleft()
            yield pk, expected
            used[owner] += expected
            if line[owner]:
                heapq.heappush(turns, (used[owner] // STEP_SECONDS, line[owner][0][0], owner))
