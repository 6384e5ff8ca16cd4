"""Storing a picture: whole files first, then the row, and nothing for a worker that lost its job."""

import errno
import hashlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from django.core.files.storage import default_storage
from django.db import IntegrityError
from django.db.models import prefetch_related_objects
from django.db.models.functions import Now

from accounts.models import User
from generation import pictures
from generation.models import Image, Job
from gpu.engines import Cancelled
from gpu.models import Worker
from loras import library
from tests.conftest import files_under, submit


def drawing(width: int = 128, height: int = 64) -> PIL.Image.Image:
    return PIL.Image.linear_gradient("L").resize((width, height)).convert("RGB")


@pytest.fixture
def job(alice: User) -> Job:
    submit(alice, seed=7)
    job = Job.objects.claim("bf16", Worker.start("atelier-01", "cpu", "bf16", 101))
    assert job is not None
    return job


def store(job: Job, image: PIL.Image.Image | None = None) -> Image:
    return pictures.store(job, 0, job.seed, image or drawing(), model="tiny", backend="test")


def test_the_file_matches_its_hash_and_its_size(job: Job, media: Path) -> None:
    row = store(job)
    png = (media / str(row.file)).read_bytes()
    assert (row.sha256, row.size) == (hashlib.sha256(png).hexdigest(), len(png))
    assert PIL.Image.open(io.BytesIO(png)).size == (128, 64)
    assert (row.owner, row.seed, row.width, row.height) == (job.owner, 7, 128, 64)


def test_the_same_recipe_drawn_again_in_another_job_gives_the_same_file(job: Job, alice: User) -> None:
    submit(alice, seed=7)
    again = Job.objects.claim("bf16", Worker.start("atelier-02", "cpu", "bf16", 202))
    assert again is not None
    assert store(job).sha256 == store(again).sha256
    row = pictures.write(again, 0, again.seed + 1, drawing(), model="tiny", backend="test")
    assert row.sha256 != again.images.get().sha256


@pytest.mark.parametrize(("size", "small"), [((2048, 1024), (512, 256)), ((128, 64), (128, 64))])
def test_a_thumbnail_is_at_most_512_pixels_wide_and_high(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    thumbnail = PIL.Image.open(io.BytesIO(pictures.thumbnail_bytes(drawing(*size))))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", small)


def test_a_worker_that_lost_the_job_stores_nothing(job: Job, media: Path) -> None:
    Job.objects.update(lease_until=Now() - timedelta(seconds=1))
    again = Job.objects.claim("bf16", Worker.start("atelier-02", "cpu", "bf16", 202))
    assert again is not None
    with pytest.raises(Cancelled):
        store(job)
    assert not Image.objects.exists()
    assert files_under(media) == set()
    assert store(again).job == job


def test_writing_asks_the_database_for_nothing(alice: User, django_assert_num_queries: Any) -> None:
    """It may be away then: what is drawn waits as a file."""
    job = submit(alice, loras=[(lora, 0.5) for lora in library.add_demo_loras()])
    plain = submit(alice)
    prefetch_related_objects([job], "job_loras")  # as the worker does before it draws
    with django_assert_num_queries(0):
        for each in (job, plain):
            pictures.write(each, 0, each.seed, drawing(), model="tiny", backend="test")


def test_a_picture_is_stored_once(job: Job) -> None:
    store(job)
    with pytest.raises(IntegrityError):
        store(job)


def test_recording_again_after_an_answer_that_was_lost_changes_nothing(job: Job) -> None:
    row = pictures.write(job, 0, job.seed, drawing(), model="tiny", backend="test")
    assert pictures.record(row) == pictures.record(row)
    assert Image.objects.get() == row


def test_of_a_picture_whose_thumbnail_finds_no_room_nothing_stays(
    job: Job, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = default_storage.save

    def full(name: str, content: Any) -> str:
        if name.endswith(".webp"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(name, content)

    monkeypatch.setattr(default_storage, "save", full)
    with pytest.raises(OSError, match="No space"):
        store(job)
    assert files_under(media) == set()
