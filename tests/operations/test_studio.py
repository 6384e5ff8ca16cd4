"""Nothing is deleted that another database may own: the studio's id in the database and in the storage."""

import io
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase

from accounts.models import User
from files import storage
from files.shared import SharedStorage
from generation.models import Image, Job
from operations import cleaning, health, studio
from operations.models import Studio
from operations.studio import ForeignFiles
from tests.conftest import files_under
from tests.generation.drawn import finished
from tests.operations.test_cleanup import make_old
from tests.store import server, shared

__all__ = ["server", "shared"]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    settings.VAR_DIR = tmp_path / "var"
    settings.LOG_DIR = settings.VAR_DIR / "log"
    settings.LOG_DIR.mkdir(parents=True)


@pytest.fixture
def pictures(alice: User, media: Path) -> set[Path]:
    """Old files of a picture."""
    finished(alice)
    return {make_old(path) for path in files_under(media)}


def another_database() -> None:
    """What is here after FLUXSITE_DATABASE_URL named an empty database."""
    Image.objects.all().delete()
    Job.objects.all().delete()
    Studio.objects.update(id=uuid4())
    studio._confirmed.clear()


def test_the_first_file_makes_an_empty_storage_this_studios(alice: User, media: Path) -> None:
    finished(alice)
    assert studio.stored_id() == Studio.current_id()


def test_an_empty_database_deletes_no_file_of_another_one(pictures: set[Path], media: Path) -> None:
    stored = studio.stored_id()
    another_database()
    with pytest.raises(ForeignFiles) as refused:
        cleaning.clean()
    for said in (str(stored), str(Studio.current_id()), "manage.py studio adopt", "FLUXSITE_DATABASE_URL"):
        assert said in str(refused.value)
    assert files_under(media) == pictures


@pytest.mark.parametrize(
    "command", [["cleanup"], ["cleanup", "--dry-run"], ["verify", "--repair"], ["studio"]]
)
def test_each_command_refuses_and_says_both_ids(pictures: set[Path], media: Path, command: list[str]) -> None:
    stored = studio.stored_id()
    another_database()
    with pytest.raises(CommandError) as refused:
        call_command(*command, stdout=io.StringIO())
    assert str(stored) in str(refused.value)
    assert str(Studio.current_id()) in str(refused.value)
    assert files_under(media) == pictures


def test_readyz_and_the_admin_say_so(pictures: set[Path]) -> None:
    another_database()
    finding = health.owner()
    assert not finding.ok
    assert str(studio.stored_id()) in finding.detail


def test_who_deletes_a_picture_leaves_the_files_of_another_studio(alice: User, media: Path) -> None:
    """Two studios on one bucket may have a LoRA of one hash, and so of one name."""
    image = finished(alice).images.get()
    studio.write_id(uuid4())
    studio._confirmed.clear()
    with TestCase.captureOnCommitCallbacks(execute=True):
        image.delete()
    with pytest.raises(ForeignFiles):
        storage.delete(str(image.file))
    assert len(files_under(media)) == 2


def test_adopting_makes_the_files_those_of_this_database(pictures: set[Path], media: Path) -> None:
    another_database()
    said = io.StringIO()
    call_command("studio", "adopt", stdout=said)
    assert str(Studio.current_id()) in said.getvalue()
    cleaning.clean()
    assert not files_under(media)
    assert all((media / "quarantine" / path.relative_to(media)).exists() for path in pictures)


def test_a_studio_of_release_0_1_claims_files_that_its_rows_name(pictures: set[Path], media: Path) -> None:
    (media / studio.MARK).unlink()
    cleaning.clean()
    assert studio.stored_id() == Studio.current_id()
    assert files_under(media) == pictures


def test_files_of_release_0_1_are_not_claimed_by_an_empty_database(pictures: set[Path], media: Path) -> None:
    (media / studio.MARK).unlink()
    another_database()
    with pytest.raises(ForeignFiles, match="to no known studio"):
        cleaning.clean()
    assert files_under(media) == pictures


def test_an_id_that_cannot_be_read_is_no_permission(pictures: set[Path], media: Path) -> None:
    (media / studio.MARK).write_text("{}")
    studio._confirmed.clear()
    with pytest.raises(OSError, match="cannot be read"):
        cleaning.clean()
    assert files_under(media) == pictures


def test_in_an_s3_store_too(alice: User, shared: SharedStorage) -> None:
    image = finished(alice).images.get()
    assert studio.stored_id() == Studio.current_id()
    another_database()
    with pytest.raises(ForeignFiles, match="the bucket"):
        cleaning.clean()
    assert shared.exists(str(image.file))
