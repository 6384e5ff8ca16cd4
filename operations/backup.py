"""Copies of everything that cannot be made again: the database, the files that its rows name, the secret key.

A backup is a directory named by its time; the bytes of files lie beside, once, named by their hash, and serve
all backups. Names of files are never used twice, so ``index.sqlite3`` knows what need not be copied again;
nothing is restored from it.

    DIR/2026-11-25T21-30-00Z/   facts.json, database.sqlite3 or database.dump, files.gz, secret_key
    DIR/bytes/ab/ab12…
    DIR/index.sqlite3
"""

import gzip
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from django.apps import apps
from django.conf import settings
from django.core.files.base import File
from django.db import connection, transaction
from django.db.models import FileField, Model, QuerySet
from django.utils import timezone

from files import storage
from files.local import sync_directory
from files.storage import Damaged
from operations import dump

OURS = ("accounts", "loras", "generation")
# A query may name 32,766 rows on SQLite.
ASKED_AT_ONCE = 1000
Progress = Callable[[Iterable[Any]], Iterable[Any]]


class Busy(Exception):
    """Another backup is being made in the same directory."""


class CannotRestore(Exception):
    """Nothing was restored. The text is a sentence for whoever asked."""


class Named(NamedTuple):
    """A file, and its hash where its row has one."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Facts:
    """What a backup holds.

    ``gone``: files that were deleted with their rows while it was made, after the database was copied.
    ``damaged``: files that are missing, or whose bytes are not those of their rows. The backup lacks them.
    """

    made_at: str
    database: str
    files: int
    copied: int
    copied_bytes: int
    gone: list[str]
    damaged: list[str]


class Store:
    """The directory of all backups. Used as a context it can be added to, by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._draft = folder / ".part"

    def __enter__(self) -> Self:
        """Raises Busy."""
        for folder in (self.folder, self.folder / "bytes"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._index = sqlite3.connect(self.folder / "index.sqlite3", isolation_level=None, timeout=0)
        try:
            # The lock is kept until the connection is closed, or its process has died.
            self._index.executescript("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
        except sqlite3.OperationalError as error:
            self._index.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise Busy from error
            raise
        self._index.execute("CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL)")
        self._delete_unfinished()
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()

    def _delete_unfinished(self) -> None:
        self._draft.unlink(missing_ok=True)
        for unfinished in self.folder.glob(".*.unfinished"):
            shutil.rmtree(unfinished)

    def backups(self) -> list[Path]:
        """The oldest first. One that was not finished is none."""
        return sorted(path.parent for path in self.folder.glob("[0-9]*/facts.json"))

    def sha256_of(self, name: str) -> str | None:
        row = self._index.execute("SELECT sha256 FROM files WHERE name = ?", [name]).fetchone()
        return row[0] if row else None

    def path_of(self, sha256: str) -> Path:
        return self.folder / "bytes" / sha256[:2] / sha256

    def take(self, file: Named) -> tuple[str, int]:
        """Copy a file of the storage, unless it is here; returns its hash, and how many bytes were copied.

        Raises FileNotFoundError, and Damaged where its bytes are not those of its row.
        """
        known = self.sha256_of(file.name)
        if known and file.sha256 in ("", known) and self.path_of(known).exists():
            return known, 0
        try:
            sha256, size = _copied(file.name, self._draft)
            if file.sha256 not in ("", sha256):
                raise Damaged(file.name)
            place = self.path_of(sha256)
            place.parent.mkdir(exist_ok=True)
            self._draft.replace(place)
        finally:
            self._draft.unlink(missing_ok=True)
        self._index.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", [file.name, sha256])
        return sha256, size

    def forget_all_but(self, keep: int) -> int:
        """Delete the oldest backups, and the bytes that no other one needs; returns how many bytes."""
        for old in self.backups()[:-keep]:
            # At once, as what is deleted in part is no backup.
            old.rename(old.with_name(f".{old.name}.unfinished"))
        self._delete_unfinished()
        self._index.execute("CREATE TEMP TABLE needed (sha256 TEXT PRIMARY KEY)")
        for backup in self.backups():
            needed = ([file.sha256] for file in files_in(backup))
            self._index.executemany("INSERT OR IGNORE INTO needed VALUES (?)", needed)
        self._index.execute("DELETE FROM files WHERE sha256 NOT IN (SELECT sha256 FROM needed)")
        return self._delete_unneeded_bytes()

    def _delete_unneeded_bytes(self) -> int:
        freed = 0
        for path in self.folder.glob("bytes/*/*"):
            if not self._index.execute("SELECT 1 FROM needed WHERE sha256 = ?", [path.name]).fetchone():
                freed += path.stat().st_size
                path.unlink()
        return freed


def _copied(name: str, target: Path) -> tuple[str, int]:
    """Copy a file of the storage; returns hash and size."""
    digest, size = hashlib.sha256(), 0
    with storage.open(name) as source, target.open("wb") as file:
        for chunk in source.chunks(1024**2):
            digest.update(chunk)
            size += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), size


# Making one ------------------------------------------------------------------------------------------


def make(store: Store, progress: Progress = iter) -> Path:
    """Make a backup, while the studio works; returns its directory. What is killed leaves no backup.

    Files are copied before the database and after: those that are deleted in between are in the first round.
    """
    made_at = timezone.now().strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    draft = store.folder / f".{made_at}.unfinished"
    draft.mkdir(mode=0o700)
    copies = Copies(store)
    with connection.cursor() as cursor:
        copies.take(progress(named_files(cursor)))
    with dump.consistent(draft) as cursor:
        wanted = list(named_files(cursor))
    copies.there.clear()
    copies.take(progress(wanted))
    absent = [file.name for file in wanted if file.name not in copies.there]
    damaged = _still_named(absent)
    _write_files(draft, copies.there)
    _write_private(draft / "secret_key", settings.SECRET_KEY)
    facts = Facts(
        made_at, connection.vendor, len(wanted), copies.copied, copies.bytes,
        gone=[name for name in absent if name not in damaged], damaged=sorted(damaged),
    )  # fmt: skip
    (draft / "facts.json").write_text(json.dumps(asdict(facts), indent=1))
    os.sync()  # its name says that it is whole, which must also be so when the power goes
    made = draft.rename(store.folder / made_at)
    sync_directory(store.folder)
    return made


class Copies:
    """Files that were copied. ``there``: the hashes of those that the store has, copied now or before."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.there: dict[str, str] = {}
        self.copied, self.bytes = 0, 0

    def take(self, files: Iterable[Named]) -> None:
        for file in files:
            try:
                self.there[file.name], size = self.store.take(file)
            except (FileNotFoundError, Damaged):
                continue
            self.copied += bool(size)
            self.bytes += size


def _still_named(names: list[str]) -> set[str]:
    """Those that rows name now. A row that is being deleted is waited for: its files may have gone first."""
    found: set[str] = set()
    with transaction.atomic():
        for field, rows in _naming(names):
            found.update(rows.select_for_update().values_list(field.name, flat=True))
    return found


def _naming(names: list[str]) -> Iterator[tuple[FileField, QuerySet[Any]]]:
    """The rows that name one of these, by the field in which they do."""
    for start in range(0, len(names), ASKED_AT_ONCE):
        some = names[start : start + ASKED_AT_ONCE]
        for model, field in _file_fields():
            yield field, model._default_manager.filter(**{f"{field.name}__in": some})


def _write_files(backup: Path, hashes: dict[str, str]) -> None:
    with gzip.open(backup / "files.gz", "wt") as listed:
        listed.writelines(f"{sha256}  {name}\n" for name, sha256 in hashes.items())


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and for nobody else to read."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)


def named_files(cursor: Any) -> Iterator[Named]:
    """The files that rows of the database behind ``cursor`` name."""
    for model, field in _file_fields():
        column, table = field.column, model._meta.db_table
        # A row's hash is of its main file; previews and thumbnails have none.
        sha256 = "sha256" if field.name == "file" else "''"
        cursor.execute(f"SELECT {column}, {sha256} FROM {table} WHERE {column} <> ''")  # noqa: S608 (ours)
        yield from (Named(*row) for row in cursor.fetchall())


def _file_fields() -> Iterator[tuple[type[Model], FileField]]:
    for model in apps.get_models():
        if model._meta.app_label in OURS:
            yield from ((model, field) for field in model._meta.get_fields() if isinstance(field, FileField))


# Reading one -----------------------------------------------------------------------------------------


def facts_of(backup: Path) -> Facts:
    return Facts(**json.loads((backup / "facts.json").read_text()))


def files_in(backup: Path) -> Iterator[Named]:
    with gzip.open(backup / "files.gz", "rt") as listed:
        for line in listed:
            sha256, _, name = line.rstrip("\n").partition("  ")
            yield Named(name, sha256)


def restore(store: Store, backup: Path, progress: Progress = iter) -> int:
    """Put the database and its files back as they were; returns how many files were written.

    What is here already is looked at by its hash and left alone. May be done again when it was killed.
    Raises CannotRestore.
    """
    facts, files = facts_of(backup), list(files_in(backup))
    if facts.database != connection.vendor:
        raise CannotRestore(
            f"The backup is of {facts.database}, and FLUXSITE_DATABASE_URL names {connection.vendor}. "
            "Restore it into the same, then move the data."
        )
    for file in files:
        if not store.path_of(file.sha256).exists():
            raise CannotRestore(f"The backup does not have the bytes of {file.name}. Take another one.")
    written = sum(_put_back(store, file) for file in progress(files))
    dump.restore(backup)
    _forget(facts.gone)
    _write_private(Path(settings.VAR_DIR) / "secret_key", (backup / "secret_key").read_text())
    return written


def _put_back(store: Store, file: Named) -> bool:
    if storage.exists(file.name):
        with storage.open(file.name) as there:
            if hashlib.file_digest(there, "sha256").hexdigest() == file.sha256:
                return False
        storage.delete(file.name)
    with store.path_of(file.sha256).open("rb") as source:
        storage.save(file.name, File(source))
    return True


def _forget(gone: list[str]) -> None:
    """End what was being deleted while the backup was made: a row goes, or its mere preview does."""
    for field, rows in _naming(gone):
        if field.blank:
            rows.update(**{field.name: ""})
        else:
            rows.delete()
