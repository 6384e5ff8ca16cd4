"""The history as CSV, for spreadsheets: UTF-8, comma, one line a job, newest first.

Times of day are in UTC (ISO 8601), durations in seconds and empty where nothing was measured.
"""

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from generation.models import Job
from generation.queue import JobQuerySet

# Read at once; a long answer holds neither memory nor a transaction.
CHUNK = 500


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds") if moment else ""


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"


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
    "sent": lambda job: _time(job.created_at),
    "started": lambda job: _time(job.started_at),  # the last attempt
    "ended": lambda job: _time(job.finished_at),
    "waited_seconds": lambda job: _seconds(job.waited_seconds),
    "loading_seconds": lambda job: _seconds(job.load_seconds),
    "drawing_seconds": lambda job: _seconds(job.draw_seconds),
    "saving_seconds": lambda job: _seconds(job.save_seconds),
    "attempts": lambda job: job.attempt,
    "error_code": lambda job: job.error_code,
    "error": lambda job: job.error,
}


class _Line:
    """Where ``csv`` writes to: it gives each line back."""

    def write(self, line: str) -> str:
        return line


def lines(jobs: JobQuerySet) -> Iterator[str]:
    """The header, then a line for each job."""
    write = csv.writer(_Line()).writerow
    yield write(COLUMNS)
    for job in _newest_first(jobs):
        yield write([as_text(value(job)) for value in COLUMNS.values()])


def as_text(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula: those begin with = + - @, a tab or a line's end."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _newest_first(jobs: JobQuerySet) -> Iterator[Job]:
    """All of them, by chunks that go on where the last one ended."""
    jobs = jobs.order_by("-id").prefetch_related("job_loras")
    rest = jobs
    while chunk := list(rest[:CHUNK]):
        yield from chunk
        rest = jobs.filter(pk__lt=chunk[-1].pk)
