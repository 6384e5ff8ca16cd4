from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from accounts.models import User
from bench.chaos import files, is_temporary, wrong_entries, wrong_files, wrong_pictures
from generation import pictures
from generation.models import Job
from gpu.models import Worker

pytestmark = pytest.mark.django_db
SMALL: dict[str, Any] = {"width": 64, "height": 64, "count": 1, "steps": 4, "engine": "bf16"}


@pytest.fixture
def media(settings: Any, tmp_path: Path) -> Path:
    """The pictures of one job that went well."""
    settings.MEDIA_ROOT = tmp_path
    Job.submit(User.objects.create_user("alice"), prompt="a red circle", seed=1, **SMALL)
    job = Job.objects.claim("bf16", Worker.start("here", "cpu", "bf16", 1))
    assert job
    picture = PIL.Image.new("RGB", (64, 64), "red")
    pictures.store(job, 0, 1, picture, model="m", backend="b", batch_size=1, vae_tiling=False)
    assert Job.objects.finish(job, "succeeded")
    return tmp_path


def broken(media: Path) -> list[str]:
    return [*wrong_files(media), *wrong_pictures(), *wrong_entries()]


def test_nothing_is_broken_after_a_job_that_went_well(media: Path) -> None:
    assert broken(media) == []


def test_a_file_without_a_row_is_an_orphan(media: Path) -> None:
    (media / "images" / "more.png").touch()
    assert broken(media) == ["file: images/more.png is an orphan"]


def test_a_temporary_file_is_none(media: Path) -> None:
    (media / "images" / ".more.png.1.tmp").touch()
    assert broken(media) == []


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_half_file_is_found(media: Path, suffix: str) -> None:
    (path,) = (path for path in files(media) if path.suffix == suffix)
    path.write_bytes(path.read_bytes()[:50])
    assert "is half" in "".join(broken(media))


def test_a_missing_file_is_found(media: Path) -> None:
    for path in files(media):
        path.unlink()
    assert len(broken(media)) == 2


def test_a_missing_picture_and_a_missing_entry_are_found(media: Path) -> None:
    Job.objects.update(count=2, attempt=2)
    assert [line.partition(":")[0] for line in broken(media)] == ["pictures", "ledger", "ledger"]


def test_only_names_that_say_so_are_temporary() -> None:
    assert is_temporary(Path("images/.a.png.12.tmp"))
    assert not is_temporary(Path("images/a.png"))
