"""Copies of everything that cannot be made again: the database, the files that its rows name, the secret key.

A backup is a directory named by its time; the bytes of files lie beside, once, named by their hash, and serve
all backups. Names of files are never used twice, so ``index.sqlite3`` knows what is there already.

    DIR/2026-11-25T21-30-00Z/   facts.json, database.sqlite3 or database.dump, names.gz, secret_key
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
from django.db import connection
from django.db.models import FileField, Model
from django.utils import timezone

from files import storage
from files.storage import Damaged
from operations import dump

OURS = ("accounts", "loras", "generation")
Progress = Callable[[Iterable[Any]], Iterable[Any]]


class CannotRestore(Exception):
    """Nothing was restored. The text is a sentence for whoever asked."""


class Named(NamedTuple):
    """A file, and its hash where its row has one."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Facts:
    """What a backup holds.

    ``gone``: files that were not there, as a rule because they were deleted while it was made.
    ``damaged``: files whose bytes are not those of their rows; they are not in the backup.
    """

    made_at: str
    database: str
    files: int
    copied: int
    copied_bytes: int
    gone: list[str]
    damaged: list[str]


class Store:
    """The directory of all backups."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._index = sqlite3.connect(folder / "index.sqlite3", isolation_level=None)
        self._index.execute("CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()

    def backups(self) -> list[Path]:
        """The oldest first. One that was not finished is none."""
        return sorted(path.parent for path in self.folder.glob("[0-9]*/facts.json"))

    def sha256_of(self, name: str) -> str | None:
        row = self._index.execute("SELECT sha256 FROM files WHERE name = ?", [name]).fetchone()
        return row[0] if row else None

    def path_of(self, sha256: str) -> Path:
        return self.folder / "bytes" / sha256[:2] / sha256

    def take(self, file: Named) -> int:
        """Copy a file of the storage, unless it is here; returns its bytes.

        Raises FileNotFoundError, and Damaged where its bytes are not those of its row.
        """
        known = self.sha256_of(file.name)
        if known and file.sha256 in ("", known) and self.path_of(known).exists():
            return 0
        draft = self.folder / f".{os.getpid()}.part"
        try:
            sha256, size = _copied(file.name, draft)
            if file.sha256 not in ("", sha256):
                raise Damaged(file.name)
            place = self.path_of(sha256)
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
        self._index.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", [file.name, sha256])
        return size

    def forget_all_but(self, keep: int) -> int:
        """Delete the oldest backups, and the bytes that no other one needs; returns how many bytes."""
        for old in self.backups()[:-keep]:
            shutil.rmtree(old)
        self._index.execute("CREATE TEMP TABLE needed (name TEXT PRIMARY KEY)")
        for backup in self.backups():
            needed = ([name] for name in names_in(backup))
            self._index.executemany("INSERT OR IGNORE INTO needed VALUES (?)", needed)
        self._index.execute("DELETE FROM files WHERE name NOT IN (SELECT name FROM needed)")
        return self._delete_unnamed_bytes()

    def _delete_unnamed_bytes(self) -> int:
        freed = 0
        for path in self.folder.glob("bytes/*/*"):
            if not self._index.execute("SELECT 1 FROM files WHERE sha256 = ?", [path.name]).fetchone():
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
    for unfinished in store.folder.glob(".*.unfinished"):
        shutil.rmtree(unfinished)
    draft = store.folder / f".{made_at}.unfinished"
    draft.mkdir(mode=0o700)
    round_ = Round(store)
    with connection.cursor() as cursor:
        round_.copy(progress(named_files(cursor)))
    with dump.consistent(draft) as cursor:
        wanted = list(named_files(cursor))
    round_.forget_what_failed()
    round_.copy(progress(wanted))
    with gzip.open(draft / "names.gz", "wt") as listed:
        listed.writelines(f"{file.name}\n" for file in wanted)
    key = Path(settings.VAR_DIR) / "secret_key"
    if key.exists():
        shutil.copy2(key, draft / "secret_key")
    facts = Facts(made_at, connection.vendor, len(wanted), **round_.facts())
    (draft / "facts.json").write_text(json.dumps(asdict(facts), indent=1))
    return draft.rename(store.folder / made_at)


class Round:
    """Copies files and counts them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.copied, self.bytes = 0, 0
        self.forget_what_failed()

    def forget_what_failed(self) -> None:
        self.gone: list[str] = []
        self.damaged: list[str] = []

    def copy(self, files: Iterable[Named]) -> None:
        for file in files:
            try:
                size = self.store.take(file)
            except FileNotFoundError:
                self.gone.append(file.name)
            except Damaged:
                self.damaged.append(file.name)
            else:
                self.copied += bool(size)
                self.bytes += size

    def facts(self) -> dict[str, Any]:
        return {
            "copied": self.copied,
            "copied_bytes": self.bytes,
            "gone": self.gone,
            "damaged": self.damaged,
        }


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


def names_in(backup: Path) -> Iterator[str]:
    with gzip.open(backup / "names.gz", "rt") as listed:
        for line in listed:
            yield line.rstrip("\n")


def restore(store: Store, backup: Path, progress: Progress = iter) -> int:
    """Put the database and its files back as they were; returns how many files were written.

    What is here already is looked at by its hash and left alone. May be done again when it was killed.
    Raises CannotRestore.
    """
    facts = facts_of(backup)
    if facts.database != connection.vendor:
        raise CannotRestore(
            f"The backup is of {facts.database}, and FLUXSITE_DATABASE_URL names {connection.vendor}. "
            "Restore it into the same, then move the data."
        )
    written = 0
    for name in progress(names_in(backup)):
        written += _put_back(store, name) if name not in facts.gone else 0
    dump.restore(backup)
    for model, field in _file_fields():
        if field.name == "file":
            # They were deleted while the backup was made; their rows are in it, for a moment more.
            model._default_manager.filter(file__in=facts.gone).delete()
    key = backup / "secret_key"
    if key.exists():
        shutil.copy2(key, Path(settings.VAR_DIR) / "secret_key")
    return written


def _put_back(store: Store, name: str) -> bool:
    sha256 = store.sha256_of(name)
    if sha256 is None or not store.path_of(sha256).exists():
        raise CannotRestore(f"The backup does not have the bytes of {name}. Take another one.")
    if storage.exists(name):
        with storage.open(name) as there:
            if hashlib.file_digest(there, "sha256").hexdigest() == sha256:
                return False
        storage.delete(name)
    with store.path_of(sha256).open("rb") as file:
        storage.save(name, File(file))
    return True
