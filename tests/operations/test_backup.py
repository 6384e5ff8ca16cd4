"""What is backed up comes back whole, and bytes are copied once."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

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
from operations import backup, backup_store, dump, studio
from operations.backup_store import Named, Store
from operations.models import Studio
from tests.conftest import ON_POSTGRESQL, _person, files_under
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
    with Store(tmp_path / "backups") as store:
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
    with Store(tmp_path / "backups") as store:
        facts = backup.facts_of(backup.make(store))
    assert (facts.files, facts.copied, facts.gone, facts.damaged) == (4, 2, [], [])


def test_old_backups_go_with_the_bytes_that_no_other_needs(alice: User, tmp_path: Path) -> None:
    image = finished(alice).images.get()
    with Store(tmp_path / "backups") as store:
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
    first = Store(folder).backups()[0]
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
    with draw_late(monkeypatch, alice, Image.delete), Store(tmp_path / "backups") as store:
        made = backup.make(store)
    assert len(backup.facts_of(made).gone) == 2
    say("restore", str(tmp_path / "backups"), "--replace")
    assert list(Image.objects.all()) == [kept]
    assert "0 missing" in say("verify", "--hash")


def test_a_picture_deleted_between_the_copies_of_its_two_files_leaves_none(
    alice: User, tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "backups") as store:

        def take_half(late: Image) -> None:
            store.take(Named(str(late.file), late.sha256))
            late.delete()

        with draw_late(monkeypatch, alice, take_half):
            backup.make(store)
    say("restore", str(tmp_path / "backups"), "--replace")
    assert not Image.objects.exists()
    assert not files_under(media)


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
    (made,) = Store(tmp_path / "backups").backups()
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
        patch.setattr(f"operations.{where}", kill)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize(
    "where",
    [
        "backup_store._copied",
        "backup._still_named",
        "backup._write_files",
        "backup._write_private",
        "backup.os.sync",
    ],
)
def test_a_backup_that_is_killed_is_none_and_the_next_one_is_whole(
    alice: User, tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    image = finished(alice).images.get()
    folder = tmp_path / "backups"
    with killed_at(monkeypatch, where):
        say("backup", str(folder))
    assert Store(folder).backups() == []
    (folder / ".part").write_bytes(b"half of a file")
    say("backup", str(folder))
    assert sorted(path.name[0] for path in folder.iterdir()) == ["2", "b", "i"]
    (media / str(image.file)).unlink()
    say("restore", str(folder), "--replace")
    assert "0 missing, 0 without a row, 0 changed" in say("verify", "--hash")


@pytest.mark.parametrize("where", ["dump.restore", "backup._forget", "backup._write_private"])
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
    with Store(folder), pytest.raises(CommandError, match="Wait for it"):
        say("backup", str(folder))
    say("backup", str(folder))


def test_a_directory_inside_of_the_studio_is_refused(media: Path, settings: Any) -> None:
    for inside in (media / "backups", settings.VAR_DIR):
        with pytest.raises(CommandError, match="would be lost with it"):
            say("backup", str(inside))
        assert not (inside / "bytes").exists()


def test_nobody_else_can_read_it(alice: User, tmp_path: Path) -> None:
    tmp_path.joinpath("backups").mkdir(mode=0o755)
    with Store(tmp_path / "backups") as store:
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
    assert Store(disk).backups() == []
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
    Store(tmp_path / "backups").path_of(image.sha256).unlink()
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


def rot(path: Path) -> None:
    """Change one byte, and neither size nor time."""
    facts, whole = path.stat(), path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_a_byte_that_rots_in_a_backup_is_found_and_the_file_copied_again(alice: User, tmp_path: Path) -> None:
    images = [finished(alice).images.get() for _ in range(3)]
    folder = tmp_path / "backups"
    say("backup", str(folder))
    copies = [Store(folder).path_of(image.sha256) for image in images]
    for copy in copies:
        rot(copy)
    for _ in range(backup_store.CHECKED_SHARE):  # within so many backups all is read
        say("backup", str(folder))
    assert [hashlib.sha256(copy.read_bytes()).hexdigest() for copy in copies] == [
        one.sha256 for one in images
    ]


def test_rotten_bytes_of_a_file_that_the_studio_has_no_more_are_said(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = finished(alice).images.get()
    folder = tmp_path / "backups"
    say("backup", str(folder))
    image.delete()
    rot(Store(folder).path_of(image.sha256))
    monkeypatch.setattr(backup_store, "CHECKED_SHARE", 1)
    with pytest.raises(CommandError, match="1 files of earlier backups were damaged"):
        say("backup", str(folder))
    assert backup.facts_of(Store(folder).backups()[-1]).rotten == [str(image.file)]


def test_rotten_bytes_are_never_restored(alice: User, tmp_path: Path, media: Path) -> None:
    image, other = (finished(alice).images.get() for _ in range(2))
    folder = tmp_path / "backups"
    say("backup", str(folder))
    rot(Store(folder).path_of(image.sha256))
    for one in (image, other):
        (media / str(one.file)).unlink()
    with pytest.raises(CommandError, match="1 files are damaged in the backup and were not written"):
        say("restore", str(folder), "--replace")
    assert not (media / str(image.file)).exists()
    assert hashlib.sha256((media / str(other.file)).read_bytes()).hexdigest() == other.sha256
    assert not list((media / "incoming").glob("*"))


@pytest.mark.parametrize(
    "line",
    [
        "{sha256}  ../../escaped.txt", "{sha256}  /etc/escaped.txt", "{sha256}  images//a.png", "{sha256}  ",
        "../../../secret  images/a.png", "{sha256}  images/a\0.png", "ab  images/a.png", "{sha256}",
    ],
)  # fmt: skip
def test_a_list_that_no_backup_writes_is_refused(alice: User, tmp_path: Path, media: Path, line: str) -> None:
    image = finished(alice).images.get()
    folder = tmp_path / "backups"
    say("backup", str(folder))
    (made,) = Store(folder).backups()
    with gzip.open(made / "files.gz", "at") as listed:
        listed.write(line.format(sha256=image.sha256) + "\n")
    (media / str(image.file)).unlink()
    with pytest.raises(CommandError, match=r"Line \d of .*files.gz is not a hash and the name of a file"):
        say("restore", str(folder), "--replace")
    assert not (media / str(image.file)).exists()
    assert not list(tmp_path.rglob("escaped.txt"))


def test_files_of_another_studio_are_neither_backed_up_nor_restored_over(
    alice: User, tmp_path: Path, media: Path
) -> None:
    finished(alice)
    folder = tmp_path / "backups"
    say("backup", str(folder))
    other = uuid4()
    studio.write_id(other)
    with pytest.raises(CommandError, match=str(other)):
        say("backup", str(tmp_path / "more"))
    before = files_under(media)
    with pytest.raises(CommandError, match=str(other)):
        say("restore", str(folder), "--replace")
    assert files_under(media) == before


def test_a_backup_brings_the_id_of_its_studio_to_a_studio_that_was_started_anew(
    alice: User, tmp_path: Path, media: Path
) -> None:
    finished(alice)
    folder, old = tmp_path / "backups", studio.identity().database
    say("backup", str(folder))
    Studio.objects.update(id=uuid4())
    studio.adopt()
    say("restore", str(folder), "--replace")
    assert studio.identity() == studio.Identity(old, old)


def test_a_backup_of_release_0_1_is_restored(alice: User, tmp_path: Path, media: Path) -> None:
    image = finished(alice).images.get()
    folder = tmp_path / "backups"
    say("backup", str(folder))
    (made,) = Store(folder).backups()
    facts = json.loads((made / "facts.json").read_text())
    del facts["studio"], facts["rotten"]
    (made / "facts.json").write_text(json.dumps(facts))
    (media / str(image.file)).unlink()
    say("restore", str(folder), "--replace")
    assert (media / str(image.file)).exists()
    studio.confirm()
