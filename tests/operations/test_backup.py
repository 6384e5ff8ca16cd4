"""What is backed up comes back whole, and bytes are copied once."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from files import storage
from generation.models import Image
from gpu.models import Worker
from operations import backup, dump
from tests.conftest import _person
from tests.generation.drawn import finished
from tests.loras.test_uploads import add

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_directory(settings: Any, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path / "var"
    settings.VAR_DIR.mkdir()


def say(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out, stderr=out)
    return out.getvalue()


def bytes_of(image: Image) -> bytes:
    with storage.open(str(image.file)) as file:
        return bytes(file.read())


def test_all_of_it_comes_back(alice: User, tmp_path: Path, media: Path, settings: Any) -> None:
    (settings.VAR_DIR / "secret_key").write_text("secret")
    image = finished(alice).images.get()
    lora = add(alice, name="Fog")
    said = say("backup", str(tmp_path / "backups"))
    assert "3 files, of them 3 new" in said

    for path in media.rglob("*"):
        if path.is_file():
            path.unlink()
    User.objects.filter(pk=alice.pk).update(username="mallory")
    (settings.VAR_DIR / "secret_key").write_text("other")
    say("restore", str(tmp_path / "backups"), "--replace")
    assert User.objects.get(pk=alice.pk).username == "alice"
    assert hashlib.sha256(bytes_of(Image.objects.get())).hexdigest() == image.sha256
    assert storage.exists(str(lora.file))
    assert (settings.VAR_DIR / "secret_key").read_text() == "secret"
    assert list(Image.objects.matching(alice, "star")) == [image]


def test_the_second_backup_copies_only_what_is_new(alice: User, tmp_path: Path) -> None:
    finished(alice)
    say("backup", str(tmp_path / "backups"))
    finished(alice)
    with backup.Store(tmp_path / "backups") as store:
        facts = backup.facts_of(backup.make(store))
    assert (facts.files, facts.copied, facts.gone, facts.damaged) == (4, 2, [], [])


def test_old_backups_go_with_the_bytes_that_no_other_needs(alice: User, tmp_path: Path) -> None:
    image = finished(alice).images.get()
    with backup.Store(tmp_path / "backups") as store:
        first = backup.make(store)
        first.rename(first.with_name("2026-01-01T00-00-00Z"))
        image.delete()
        finished(alice, seed=8)
        backup.make(store)
    assert "1 kept, 0.0 MB freed" in say("backup", str(tmp_path / "backups"), "--keep", "1")
    kept = list((tmp_path / "backups" / "bytes").rglob("*/*"))
    assert len([path for path in kept if path.is_file()]) == 2


def test_a_picture_that_comes_and_goes_meanwhile_is_no_missing_file(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: drawn after the first round, deleted between the database's copy and the second."""
    kept = finished(alice).images.get()
    consistent = dump.consistent

    @contextmanager
    def unluckily(folder: Path) -> Iterator[Any]:
        late = finished(alice, seed=8).images.get()
        with consistent(folder) as cursor:
            yield cursor
        late.delete()

    monkeypatch.setattr(dump, "consistent", unluckily)
    with backup.Store(tmp_path / "backups") as store:
        made = backup.make(store)
    assert len(backup.facts_of(made).gone) == 2
    say("restore", str(tmp_path / "backups"), "--replace")
    assert list(Image.objects.all()) == [kept]


def test_damage_is_said_and_everything_else_is_kept(alice: User, tmp_path: Path, media: Path) -> None:
    image = finished(alice).images.get()
    (media / str(image.file)).write_bytes(b"damaged")
    with pytest.raises(CommandError, match="1 files are damaged"):
        say("backup", str(tmp_path / "backups"))
    with backup.Store(tmp_path / "backups") as store:
        (made,) = store.backups()
    assert backup.facts_of(made).damaged == [image.file.name]


def test_a_studio_with_people_or_workers_is_not_overwritten_by_mistake(alice: User, tmp_path: Path) -> None:
    say("backup", str(tmp_path / "backups"))
    with pytest.raises(CommandError, match="has 1 accounts"):
        say("restore", str(tmp_path / "backups"))
    Worker.start("here", "cpu", "bf16", 1)
    with pytest.raises(CommandError, match="Stop the studio first"):
        say("restore", str(tmp_path / "backups"), "--replace")


def test_a_backup_that_is_not_there_is_named(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There are: none"):
        say("restore", str(tmp_path))


def test_bytes_that_the_backup_lost_are_said_before_anything_is_changed(
    alice: User, tmp_path: Path, media: Path
) -> None:
    image = finished(alice).images.get()
    say("backup", str(tmp_path / "backups"))
    with backup.Store(tmp_path / "backups") as store:
        store.path_of(image.sha256).unlink()
    _person("bob")
    with pytest.raises(CommandError, match="does not have the bytes"):
        say("restore", str(tmp_path / "backups"), "--replace")
    assert User.objects.filter(username="bob").exists()
