"""What is backed up comes back whole, and bytes are copied once."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import User
from files import storage
from generation.models import Image
from gpu.models import Worker
from loras import library
from loras.models import Lora
from operations import backup, dump
from tests.conftest import ON_POSTGRESQL, _person
from tests.faults.studio import allowed, need
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
    settings.SECRET_KEY = "secret"
    image = finished(alice).images.get()
    lora = add(alice, name="Fog")
    folder = str(tmp_path / "backups #1 of 100%")
    said = say("backup", folder)
    assert "3 files, of them 3 new" in said

    for path in media.rglob("*"):
        if path.is_file():
            path.unlink()
    User.objects.filter(pk=alice.pk).update(username="mallory")
    (settings.VAR_DIR / "secret_key").write_text("other")
    say("restore", folder, "--replace")
    assert User.objects.get(pk=alice.pk).username == "alice"
    assert hashlib.sha256(bytes_of(Image.objects.get())).hexdigest() == image.sha256
    assert storage.exists(str(lora.file))
    key = settings.VAR_DIR / "secret_key"
    assert (key.read_text(), key.stat().st_mode & 0o777) == ("secret", 0o600)
    assert list(Image.objects.matching(alice, "star")) == [image]


@pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite's copy takes the place of the whole file")
def test_tables_of_a_newer_version_do_not_stand_in_the_way(alice: User, tmp_path: Path) -> None:
    """As after an upgrade that is taken back; and if the copy cannot be read nothing is changed."""
    say("backup", str(tmp_path / "backups"))
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE newer (job uuid REFERENCES generation_job, lora uuid)")
    with backup.Store(tmp_path / "backups") as store:
        (made,) = store.backups()
    copy = made / "database.dump"
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CommandError, match="pg_restore ended with"):
        say("restore", str(tmp_path / "backups"), "--replace")
    assert "newer" in connection.introspection.table_names()
    copy.write_bytes(whole)
    say("restore", str(tmp_path / "backups"), "--replace")
    assert "newer" not in connection.introspection.table_names()
    assert User.objects.get() == alice


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


def test_a_lost_index_costs_a_copy_and_no_backup(alice: User, tmp_path: Path, media: Path) -> None:
    image = finished(alice).images.get()
    folder = tmp_path / "backups"
    say("backup", str(folder))
    (folder / "index.sqlite3").unlink()
    (media / str(image.thumbnail)).write_bytes(b"drawn again")
    assert "2 files, of them 2 new" in say("backup", str(folder), "--keep", "2")
    first = backup.Store(folder).backups()[0]
    say("restore", str(folder), "--backup", first.name, "--replace")
    with storage.open(str(image.thumbnail)) as file:
        assert file.read() != b"drawn again"


@contextmanager
def just_then(monkeypatch: pytest.MonkeyPatch, after: Callable[[], object]) -> Iterator[None]:
    """What is done ``after`` the database was copied, before files are copied again."""
    consistent = dump.consistent

    @contextmanager
    def unluckily(folder: Path) -> Iterator[Any]:
        with consistent(folder) as cursor:
            yield cursor
        after()

    with monkeypatch.context() as patch:
        patch.setattr(dump, "consistent", unluckily)
        yield


def draw_late(monkeypatch: pytest.MonkeyPatch, alice: User, unlucky: Callable[[Image], object]) -> Any:
    """A picture is drawn after the first round and is in the database's copy; then ``unlucky`` comes."""
    late: list[Image] = []
    copy = dump.consistent

    def draw(folder: Path) -> Any:
        late.append(finished(alice, seed=8).images.get())
        return copy(folder)

    monkeypatch.setattr(dump, "consistent", draw)
    return just_then(monkeypatch, lambda: unlucky(late[0]))


def test_a_picture_that_comes_and_goes_meanwhile_is_no_missing_file(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = finished(alice).images.get()
    with draw_late(monkeypatch, alice, Image.delete), backup.Store(tmp_path / "backups") as store:
        made = backup.make(store)
    assert len(backup.facts_of(made).gone) == 2
    say("restore", str(tmp_path / "backups"), "--replace")
    assert list(Image.objects.all()) == [kept]
    assert "0 missing" in say("verify", "--hash")


def test_a_picture_deleted_between_the_copies_of_its_two_files_leaves_none(
    alice: User, tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with backup.Store(tmp_path / "backups") as store:

        def take_half(late: Image) -> None:
            store.take(backup.Named(str(late.file), late.sha256))
            late.delete()

        with draw_late(monkeypatch, alice, take_half):
            backup.make(store)
    say("restore", str(tmp_path / "backups"), "--replace")
    assert not Image.objects.exists()
    assert not [path for path in media.rglob("*") if path.is_file()]


def test_a_preview_that_is_replaced_meanwhile_costs_nobody_the_lora(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = add(alice)

    def preview(content: bytes) -> None:
        library.set_preview(lora, ContentFile(content))

    copy = dump.consistent

    def previewed(folder: Path) -> Any:
        preview(b"first")
        return copy(folder)

    monkeypatch.setattr(dump, "consistent", previewed)
    with just_then(monkeypatch, lambda: preview(b"second")):
        say("backup", str(tmp_path / "backups"))
    say("restore", str(tmp_path / "backups"), "--replace")
    assert str(Lora.objects.get().preview) == ""
    assert "0 missing" in say("verify", "--hash")


def test_damage_is_said_and_everything_else_is_kept(alice: User, tmp_path: Path, media: Path) -> None:
    damaged, missing, whole = (finished(alice, seed=seed).images.get() for seed in (7, 8, 9))
    (media / str(damaged.file)).write_bytes(b"damaged")
    (media / str(missing.file)).unlink()
    before = bytes_of(whole)
    with pytest.raises(CommandError, match="2 files are missing or damaged"):
        say("backup", str(tmp_path / "backups"), "--keep", "1")
    (made,) = backup.Store(tmp_path / "backups").backups()
    assert backup.facts_of(made).damaged == sorted(str(image.file) for image in (damaged, missing))

    for path in (media / "images").rglob("*.png"):
        path.unlink()
    say("restore", str(tmp_path / "backups"), "--replace")
    assert bytes_of(whole) == before
    # Their rows tell what there was.
    assert Image.objects.count() == 3


def test_what_an_earlier_backup_has_is_no_damage(alice: User, tmp_path: Path, media: Path) -> None:
    image = finished(alice).images.get()
    say("backup", str(tmp_path / "backups"))
    before = bytes_of(image)
    (media / str(image.file)).unlink()
    say("backup", str(tmp_path / "backups"))
    say("restore", str(tmp_path / "backups"), "--replace")
    assert bytes_of(image) == before


# Cut short, and at the wrong place -------------------------------------------------------------------


class Killed(BaseException):
    pass


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, where: str) -> Iterator[None]:
    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"operations.backup.{where}", kill)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize("where", ["_copied", "_still_named", "_write_files", "_write_private", "os.sync"])
def test_a_backup_that_is_killed_is_none_and_the_next_one_is_whole(
    alice: User, tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    image = finished(alice).images.get()
    folder = tmp_path / "backups"
    with killed_at(monkeypatch, where):
        say("backup", str(folder))
    assert backup.Store(folder).backups() == []
    (folder / ".part").write_bytes(b"half of a file")
    say("backup", str(folder))
    assert sorted(path.name[0] for path in folder.iterdir()) == ["2", "b", "i"]
    (media / str(image.file)).unlink()
    say("restore", str(folder), "--replace")
    assert "0 missing, 0 without a row, 0 changed" in say("verify", "--hash")


@pytest.mark.parametrize("where", ["dump.restore", "_forget", "_write_private"])
def test_a_restore_that_is_killed_can_be_done_again(
    alice: User, tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    image = finished(alice).images.get()
    say("backup", str(tmp_path / "backups"))
    image.delete()
    with killed_at(monkeypatch, where):
        say("restore", str(tmp_path / "backups"), "--replace")
    say("restore", str(tmp_path / "backups"), "--replace")
    assert Image.objects.get().sha256 == image.sha256
    assert "0 missing, 0 without a row, 0 changed" in say("verify", "--hash")


def test_two_backups_into_one_directory_do_not_mix(alice: User, tmp_path: Path) -> None:
    """The one that ends first would delete what the other has copied."""
    folder = tmp_path / "backups"
    with backup.Store(folder), pytest.raises(CommandError, match="Wait for it"):
        say("backup", str(folder))
    say("backup", str(folder))


def test_a_directory_inside_of_the_studio_is_refused(media: Path, settings: Any) -> None:
    for inside in (media / "backups", settings.VAR_DIR):
        with pytest.raises(CommandError, match="would be lost with it"):
            say("backup", str(inside))
        assert not (inside / "bytes").exists()


def test_nobody_else_can_read_it(alice: User, tmp_path: Path) -> None:
    tmp_path.joinpath("backups").mkdir(mode=0o755)
    with backup.Store(tmp_path / "backups") as store:
        made = backup.make(store)
    assert {folder.stat().st_mode & 0o777 for folder in (made, store.folder / "bytes")} == {0o700}
    assert (made / "secret_key").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Of a fifth of a megabyte: less than a database has."""
    place = tmp_path / "disk"
    place.mkdir()
    need(allowed("mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)), "To mount needs root.")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_on_a_full_disk_no_backup_is_made_and_with_room_it_is_which_can_be_restored_read_only(
    alice: User, disk: Path
) -> None:
    image = finished(alice).images.get()
    with disk.joinpath("ballast").open("wb") as ballast:
        ballast.write(bytes(shutil.disk_usage(disk).free - 40_960))
    with pytest.raises(CommandError, match=r"No backup was made: .*full|pg_dump ended with"):
        say("backup", str(disk))
    assert backup.Store(disk).backups() == []
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    say("backup", str(disk))
    assert not list(disk.glob(".*"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    image.delete()
    say("restore", str(disk), "--replace")
    assert Image.objects.get().sha256 == image.sha256


def test_a_studio_with_people_or_workers_is_not_overwritten_by_mistake(alice: User, tmp_path: Path) -> None:
    say("backup", str(tmp_path / "backups"))
    with pytest.raises(CommandError, match="has 1 accounts"):
        say("restore", str(tmp_path / "backups"))
    Worker.start("here", "cpu", "bf16", 1)
    with pytest.raises(CommandError, match="Stop the studio first"):
        say("restore", str(tmp_path / "backups"), "--replace")


def test_a_backup_that_is_not_there_is_named(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There are: none"):
        say("restore", str(tmp_path / "mistyped"))
    assert not (tmp_path / "mistyped").exists()


def test_bytes_that_the_backup_lost_are_said_before_anything_is_changed(
    alice: User, tmp_path: Path, media: Path
) -> None:
    image = finished(alice).images.get()
    say("backup", str(tmp_path / "backups"))
    backup.Store(tmp_path / "backups").path_of(image.sha256).unlink()
    _person("bob")
    with pytest.raises(CommandError, match="does not have the bytes"):
        say("restore", str(tmp_path / "backups"), "--replace")
    assert User.objects.filter(username="bob").exists()


@pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite has no line to protect")
def test_what_is_asked_of_tls_is_asked_for_the_copy_too(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests' server has no TLS."""
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "sslmode", "require")
    with pytest.raises(CommandError, match="server does not support SSL"):
        say("backup", str(tmp_path / "backups"))
