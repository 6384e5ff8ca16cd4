"""Pictures in the gallery, in the trash, and gone."""

from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection, connections, transaction

from accounts.models import User
from files.address import options_of
from generation.models import Image
from tests.conftest import files_under
from tests.generation.drawn import finished
from tests.postgresql import free_port

pytestmark = pytest.mark.django_db


def test_the_trash_keeps_the_files_and_gives_pictures_back(alice: User) -> None:
    image = finished(alice).images.get()
    mine = Image.objects.visible_to(alice)
    assert (mine.trash(), mine.trash()) == (1, 0)
    assert not mine.kept().exists()
    assert mine.trashed().get() == image
    assert default_storage.exists(str(image.file))
    assert (mine.restore(), mine.restore()) == (1, 0)
    assert mine.kept().get() == image


@pytest.mark.django_db(transaction=True)
def test_a_picture_restored_while_the_trash_is_emptied_is_kept_or_was_never_restored(alice: User) -> None:
    image = finished(alice).images.get()
    Image.objects.trash()
    restored: list[int] = []

    def restore() -> None:
        try:
            restored.append(Image.objects.restore())
        finally:
            connections.close_all()

    other = Thread(target=restore)

    def meanwhile(execute: Any, sql: str, *args: Any) -> Any:
        answer = execute(sql, *args)
        if "sha256" in sql and not other.ident:  # the rows are read that will be deleted by their ids
            other.start()
            other.join(1)  # it waits for the lock, if there is one
        return answer

    with connection.execute_wrapper(meanwhile):
        purged = Image.objects.purge()
    other.join()
    assert (purged, restored) in ((1, [0]), (0, [1]))
    assert Image.objects.filter(pk=image.pk).exists() == bool(restored[0])


@pytest.mark.django_db(transaction=True)
def test_deleting_frees_the_bytes_once_it_is_committed(alice: User, media: Path) -> None:
    job = finished(alice, count=2)
    with transaction.atomic():
        job.images.all().delete()
        assert len(list(media.rglob("*.png"))) == 2
    assert files_under(media) == set()


@pytest.mark.django_db(transaction=True)
def test_while_the_store_is_away_rows_go_and_their_files_are_left_for_the_cleanup(
    alice: User, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    finished(alice, count=2)
    options = options_of(f"s3://key:secret@127.0.0.1:{free_port()}/studio?region=us-east-1&tls=no")
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "files.shared.SharedStorage", "OPTIONS": options}
    }
    mine = Image.objects.visible_to(alice)
    mine.trash()
    assert mine.purge() == 2
    assert not mine.exists()
    assert "4 files stay until the next cleanup: The file store does not answer" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_delete_that_is_taken_back_keeps_the_files(alice: User) -> None:
    image = finished(alice).images.get()
    with transaction.atomic():
        image.delete()
        transaction.set_rollback(True)
    assert default_storage.exists(str(Image.objects.get().file))


@pytest.mark.django_db(transaction=True)
def test_a_job_that_is_deleted_takes_the_files_along(alice: User, media: Path) -> None:
    finished(alice, count=2).delete()
    assert files_under(media) == set()
