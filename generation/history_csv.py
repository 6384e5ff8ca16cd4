"""The history as a table, a row for each job, newest first; durations in seconds, empty where unmeasured."""

from collections.abc import Callable, Iterator
from typing import Any

from generation.models import Job
from generation.queue import JobQuerySet

# Read at once; a long answer holds neither memory nor a transaction.
CHUNK = 500


# Each column and what stands in it.
COLUMNS: dict[str, Callable[[Job], Any]] = {
    "id": lambda job: job.pk,
    "repeats": lambda job: job.parent_id,  # the job that it asks for again
    "state": lambda job: job.state,
    "engine": lambda job: job.engine,
    "prompt": lambda job: job.prompt,
    "width": lambda job: job.width,  # pixels
    "height": lambda job: job.height,
    "pictures": lambda job: job.count,
    "steps": lambda job: job.steps,
    "seed": lambda job: job.seed,  # of the first picture; each next one has the next seed
    "loras": lambda job: "; ".join(f"{one.name} {one.weight:g}" for one in job.job_loras.all()),
    "sent": lambda job: job.created_at,
    "started": lambda job: job.started_at,  # the last attempt
    "ended": lambda job: job.finished_at,
    "waited_seconds": lambda job: job.waited_seconds,
    "loading_seconds": lambda job: job.load_seconds,
    "drawing_seconds": lambda job: job.draw_seconds,
    "saving_seconds": lambda job: job.save_seconds,
    "attempts": lambda job: job.attempt,
    "error_code": lambda job: job.error_code,
    "error": lambda job: job.error,
}


def rows(jobs: JobQuerySet) -> Iterator[list[Any]]:
    """A row for each job."""
    for job in _newest_first(jobs):
        yield [value(job) for value in COLUMNS.values()]


def _newest_first(jobs: JobQuerySet) -> Iterator[Job]:
    """All of them, by chunks that go on where the last one ended."""
    jobs = jobs.order_by("-id").prefetch_related("job_loras")
    rest = jobs
    while chunk := list(rest[:CHUNK]):
        yield from chunk
        rest = jobs.filter(pk__lt=chunk[-1].pk)
