"""What the gallery costs with 1,000, 100,000 and 1,000,000 pictures: ``python -m bench.gallery``.

Rows as jobs leave them, without files; nine of ten are of one user, who asks. A page goes through the whole
stack, middleware and templates included, without the network. Needs 6 GB of free disk, and some minutes for
each database.
"""
# ruff: noqa: S608 (the SQL here is put together of our own words)

import argparse
import json
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import psutil

from bench.processes import DATABASES, new_site
from bench.queue import median_and_p95

if TYPE_CHECKING:
    from django.db.models import Model

    from accounts.models import User
    from generation.models import Image
    from loras.models import Lora

SIZES = (1_000, 100_000, 1_000_000)
TURNS, PAGE = 60, 60
DEEP = 1_000 * PAGE
# Pictures that the rare word, the favourites and the collection have, however many there are.
RARE, COLLECTED = 20, 500
BASE, EVERY, EPOCH = 1_000, timedelta(minutes=2), datetime(2020, 1, 1, tzinfo=UTC)
FIRST = "bench_first_jobs"
WANTED_MS, WANTED_GROWTH, WANTED_BYTES = 50, 2, 150_000
NOUNS = (
    "circle", "ring", "square", "triangle", "heart", "lighthouse", "mountain", "river", "valley", "fox",
)  # fmt: skip
LOOKS = (
    "red", "blue", "yellow", "green", "big", "small", "striped", "outlined", "paper", "velvet", "golden",
)  # fmt: skip
rng = random.Random(1)  # noqa: S311 (nothing secret)


@dataclass(frozen=True)
class Figure:
    """Of one address: milliseconds until the answer, queries, bytes of HTML, and milliseconds that processors
    worked for it, here and in the database's process: those are about the same on a busy machine.
    """

    median: float
    p95: float
    queries: int
    size: int
    processor: float


Figures = dict[tuple[str, int, str], Figure]


# Rows -------------------------------------------------------------------------------------------------


def seed(count: int, *, vacuum: bool = True) -> None:
    """Fill an empty studio with ``count`` pictures, of a job each, and ``RARE`` more.

    The first 1,000 are made as the product makes them, each following thousand of those by the database.
    ``vacuum``: do then what autovacuum does on PostgreSQL by itself; not within a transaction.
    """
    from django.db import connection

    from accounts.models import User
    from loras.models import Lora

    owner, other = (User.objects.create_user(name, password=None) for name in ("ana", "ben"))
    lora = Lora.objects.create(
        owner=owner, slug="paper", name="Paper Relief", state="ready", sha256="ab" * 32, size=1, family="demo"
    )
    insert(range(min(BASE, count)), count, [owner] * 9 + [other], lora)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE {FIRST} AS SELECT id FROM generation_job")
    for thousand in range(1, count // BASE):
        copy(thousand)
    insert(range(count, count + RARE), count, [owner], None)
    collect(owner)
    if vacuum and connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


def insert(numbers: range, count: int, owners: "list[User]", lora: "Lora | None") -> None:
    """Pictures with these seeds; from ``count`` on they have the rare word, and are spread evenly."""
    from generation.models import Image, Job, JobLora, lora_set

    now = datetime.now(UTC)
    jobs, images, chosen = [], [], []
    for number in numbers:
        loras = [lora] if lora and rng.random() < 0.1 else []
        job = Job(
            owner=rng.choice(owners), prompt=prompt(is_rare=number >= count), seed=number, count=1,
            width=1024, height=rng.choice((1024, 768, 1536)), engine=rng.choice(("fp4", "bf16")),
            state=Job.State.SUCCEEDED, lora_set=lora_set(loras),
        )  # fmt: skip
        chosen += [
            JobLora(
                job=job, lora=one, order=0, weight=1, name=one.name, slug=one.slug, sha256=one.sha256
            )
            for one in loras
        ]  # fmt: skip
        age = count - number if number < count else (number - count) * count // RARE
        jobs.append(job)
        images.append(image(job, now - age * EVERY))
    Job.objects.bulk_create(jobs)
    JobLora.objects.bulk_create(chosen)
    Image.objects.bulk_create(images)


def image(job: Any, made_at: datetime) -> "Image":
    from generation import search
    from generation.models import Image
    from generation.moments import moment_at

    lora = " Paper Relief" if job.lora_set else ""
    return Image(
        job=job, owner=job.owner, index=0, seed=job.seed, width=job.width, height=job.height, model="demo",
        backend="diffusers", file=f"images/{job.pk}.png", sha256=f"{job.seed:064x}", size=1_400_000,
        thumbnail=f"images/{job.pk}.webp", moment=moment_at(made_at) + rng.randrange(2**22),
        words=f"{job.prompt.replace(',', '')} {job.seed}{lora}", facts=search.facts_of(job),
        favourite=rng.random() < 0.1,
    )  # fmt: skip


def prompt(*, is_rare: bool) -> str:
    """Some twenty words. Half of them name a star."""
    first = "a star" if rng.random() < 0.5 else f"a {rng.choice(NOUNS)}"
    looks = ", ".join(f"{rng.choice(LOOKS)} {rng.choice(NOUNS)}" for _ in range(7))
    return f"{first} on a {rng.choice(LOOKS)} background, {looks}{', obelisk' if is_rare else ''}"


def copy(thousand: int) -> None:
    """Insert the first thousand once more, with other ids and seeds, later."""
    from django.db import transaction

    from generation.models import Image, Job, JobLora
    from generation.moments import moment_at

    later = moment_at(EPOCH + EVERY * BASE * thousand) - moment_at(EPOCH)
    job = {"job_id": other_id("job_id", thousand)}
    own = {"id": other_id("id", thousand), "seed": f"seed + {thousand * BASE}"}
    place = {"moment": f"moment + {later}", "words": f"words || ' {thousand}'"}
    with transaction.atomic():
        copy_rows(Job, own, "id")
        copy_rows(JobLora, job, "job_id")
        copy_rows(Image, own | job | place, "job_id")


def copy_rows(model: "type[Model]", changes: dict[str, str], job: str) -> None:
    """``changes``: an expression for each column that is another in the copy; ``job``: the one of the job."""
    from django.db import connection

    names = [str(field.column) for field in model._meta.concrete_fields]
    changed = {name: changes.get(name, f'"{name}"') for name in names if name != "id" or name in changes}
    columns = ", ".join(f'"{name}"' for name in changed)
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) SELECT {', '.join(changed.values())} FROM {table}"
            f" WHERE {job} IN (SELECT id FROM {FIRST})"
        )


def other_id(column: str, thousand: int) -> str:
    """The id in ``column`` with other last digits, as an expression."""
    from django.db import connection

    if connection.vendor == "postgresql":
        return f"(left({column}::text, 28) || '{thousand:08x}')::uuid"
    return f"substr({column}, 1, 24) || '{thousand:08x}'"


def collect(owner: "User") -> None:
    from generation.models import Collection, Image

    mine = Image.objects.visible_to(owner)
    every = max(1, mine.count() // COLLECTED)
    chosen = mine.newest_first().only("moment").iterator()
    Collection.objects.create(owner=owner, name="Valley").add(
        list(islice(chosen, 0, None, every))[:COLLECTED]
    )


# Measuring --------------------------------------------------------------------------------------------


def addresses() -> dict[str, str]:
    from accounts.models import User
    from generation.models import Collection, Image
    from generation.moments import made_at

    mine = Image.objects.visible_to(User.objects.get(username="ana")).kept().newest_first()
    place = min(DEEP, mine.count() * 9 // 10)
    end = made_at(mine[place].moment)
    month = f"from={end - timedelta(days=30):%Y-%m-%d}&to={end:%Y-%m-%d}"
    return {
        "first page": "/gallery/",
        "page 1,000 by keyset": f"/gallery/?before={mine[place].moment}",
        "common word": "/gallery/?q=star",
        "rare word": "/gallery/?q=obelisk",
        "two words": "/gallery/?q=golden+fox",
        "LoRA": "/gallery/?lora=paper",
        "engine": "/gallery/?engine=fp4",
        "favourites": "/gallery/?favourite=1",
        "collection": f"/gallery/?collection={Collection.objects.get().pk}",
        "one month, common word": f"/gallery/?q=star&{month}",
    }


class Visitor:
    """Who asks for the pages, in the process that has the site's database."""

    def __init__(self) -> None:
        from django.test import Client

        from accounts.models import User

        self.client = Client(headers={"host": "127.0.0.1"})
        self.client.force_login(User.objects.get(username="ana"))
        self.pages = addresses()

    def turn(self) -> dict[str, float]:
        """Seconds that each page took, asked for once."""
        return {name: self._seconds(path) for name, path in self.pages.items()}

    def _seconds(self, path: str) -> float:
        start = time.perf_counter()
        response = self.client.get(path)
        taken = time.perf_counter() - start
        if response.status_code != 200:
            raise RuntimeError(f"{path} answered {response.status_code}")
        return taken

    def counts(self) -> dict[str, tuple[int, int, float]]:
        """Queries, bytes and processor's milliseconds of each page, when all has been read once."""
        self.turn()
        return {name: (*self._counts(path), self._processor(path)) for name, path in self.pages.items()}

    def _counts(self, path: str) -> tuple[int, int]:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as queries:
            response = self.client.get(path)
        return len(queries), len(response.content)

    def _processor(self, path: str) -> float:
        """The mean of ``TURNS`` requests: the clock of another process only ticks every 10 ms."""
        processes = [psutil.Process(), *database_processes()]
        before = sum(sum(process.cpu_times()[:2]) for process in processes)
        for _ in range(TURNS):
            self.client.get(path)
        worked = sum(sum(process.cpu_times()[:2]) for process in processes) - before
        return worked / TURNS * 1000


def database_processes() -> list[psutil.Process]:
    """The process of PostgreSQL that answers this one; SQLite has none."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return [psutil.Process(cursor.fetchone()[0])]


# Printing ---------------------------------------------------------------------------------------------


def table(figures: Figures) -> str:
    """One row a page and database; each size as median / 95th percentile in ms."""
    sizes = sorted({size for _, size, _ in figures})
    counts = " | ".join(f"{size:,}" for size in sizes)
    lines = [
        f"| page | database | {counts} | p95 grows | processor | queries | HTML | holds |",
        "|---|---|" + "---:|" * (len(sizes) + 4) + "---|",
    ]
    for name, database in rows(figures):
        each = [figures[database, size, name] for size in sizes]
        times = " | ".join(f"{one.median:.1f} / {one.p95:.1f}" for one in each)
        queries = "–".join(str(number) for number in sorted({one.queries for one in each}))
        growth = each[-1].p95 / each[0].p95
        held = "yes" if holds(each) else "**no**"
        size = max(one.size for one in each) / 1000
        worked = f"{each[0].processor:.0f} → {each[-1].processor:.0f}"
        lines.append(
            f"| {name} | {database} | {times} | {growth:.2f} × | {worked} ms | {queries} | {size:.0f} kB"
            f" | {held} |"
        )
    return "\n".join(lines)


def rows(figures: Figures) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(name for _, _, name in figures):
        for database in dict.fromkeys(database for database, _, _ in figures):
            yield name, database


def holds(each: list[Figure]) -> bool:
    """Whether the most pictures cost what is wanted: 50 ms at most, and twice what the fewest do."""
    few, many = each[0], each[-1]
    is_quick = many.p95 <= WANTED_MS and many.p95 <= WANTED_GROWTH * few.p95
    return is_quick and max(one.size for one in each) <= WANTED_BYTES


class Part:
    """A process with a site of its own: seeded when this returns, and then asked for one turn at a time."""

    def __init__(self, stack: ExitStack, database: str, size: int) -> None:
        site = stack.enter_context(new_site(database, FLUXSITE_ALLOWED_HOSTS="127.0.0.1"))
        site.manage("collectstatic", "--noinput", "--verbosity", "0")
        self._process = stack.enter_context(
            subprocess.Popen(
                (sys.executable, "-m", "bench.gallery", "--part", str(size)),
                env=site.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        stack.callback(self._process.kill)
        self.counts = self.read()
        self.seconds: dict[str, list[float]] = {name: [] for name in self.counts}

    def read(self) -> dict[str, Any]:
        assert self._process.stdout
        return dict(json.loads(self._process.stdout.readline()))

    def turn(self) -> None:
        print(file=self._process.stdin, flush=True)
        for name, seconds in self.read().items():
            self.seconds[name].append(seconds)

    def figures(self) -> dict[str, Figure]:
        return {
            name: Figure(*median_and_p95(each), *self.counts[name]) for name, each in self.seconds.items()
        }


def run_part(size: int) -> None:
    """The process of a part: seeds, and takes a turn for each line it is sent."""
    import django

    django.setup()
    start = time.perf_counter()
    seed(size)
    print(f"seeded {size:,} in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    visitor = Visitor()
    print(json.dumps(visitor.counts()), flush=True)
    for _ in sys.stdin:
        print(json.dumps(visitor.turn()), flush=True)


def measure(database: str, sizes: Sequence[int], turns: int) -> Figures:
    """The sizes take turns, so that whatever else the machine does hits all alike."""
    with ExitStack() as stack:
        parts = {size: Part(stack, database, size) for size in sizes}
        for _ in range(turns):
            for part in parts.values():
                part.turn()
    return {
        (database, size, name): figure
        for size, part in parts.items()
        for name, figure in part.figures().items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="how many pictures, fewest first")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--turns", type=int, default=TURNS, help="requests of each page")
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        run_part(asked.part)
        return
    figures: Figures = {}
    for database in asked.databases:
        figures |= measure(database, asked.sizes, asked.turns)
    print(f"{psutil.cpu_count()} cores, {platform.machine()}. Median / 95th percentile in ms.")
    print(f"\n{table(figures)}")


if __name__ == "__main__":
    main()
