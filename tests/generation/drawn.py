"""Pictures that nobody drew."""

from typing import Any

import PIL.Image
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from generation import pictures
from generation.models import Image, Job
from tests.conftest import submit


def draw(job: Job, index: int = 0) -> Image:
    """Store a grey picture in a job, as a worker does."""
    before = {"state": job.state, "attempt": job.attempt}
    Job.objects.filter(pk=job.pk).update(state=Job.State.RUNNING, attempt=1)
    job.refresh_from_db()
    grey = PIL.Image.new("RGB", (job.width, job.height), "grey")
    image = pictures.store(job, index, job.seed + index, grey, model="a model", backend="a backend")
    Job.objects.filter(pk=job.pk).update(**before)
    job.refresh_from_db()
    return image


def finished(owner: User, **changes: Any) -> Job:
    """A job whose pictures are all there. No worker of a real studio can take it meanwhile."""
    with transaction.atomic():
        job = submit(owner, **changes)
        Job.objects.filter(pk=job.pk).update(state=Job.State.RUNNING, attempt=1)
    job.refresh_from_db()
    for index in range(job.count):
        draw(job, index)
    now = timezone.now()
    Job.objects.filter(pk=job.pk).update(
        state=Job.State.SUCCEEDED, attempt=1, started_at=now, finished_at=now, draw_seconds=1.7 * job.count
    )
    job.refresh_from_db()
    return job
