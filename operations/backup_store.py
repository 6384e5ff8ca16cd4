"""The directory of all backups: bytes named by their hash, and an index of what need not be copied again."""

import gzip
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from files import storage
from files.shared_models import is_within
from files.storage import Damaged

# Each backup reads one in so many of the stored bytes, so all are read again within so many backups.
CHECKED_SHARE = 10
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Busy(Exception):
    """Another backup is being made in the same directory."""


class Named(NamedTuple):
    """A file, and its hash where its row has one."""

    name: str
    sha256: str


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
        # When the bytes of a hash were last read and found whole; ``run`` counts the backups made here.
        self._index.execute(
            "CREATE TABLE IF NOT EXISTS checked (sha256 TEXT PRIMARY KEY, run INTEGER NOT NULL)"
        )
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

    def check_share(self) -> list[str]:
        """Read again a tenth of all bytes, those that were not read for longest; returns damaged hashes."""
        there = {path.name for path in self.folder.glob("bytes/*/*") if _SHA256.fullmatch(path.name)}
        last = dict(self._index.execute("SELECT sha256, run FROM checked").fetchall())
        run = max(last.values(), default=0) + 1
        oldest_first = sorted(there, key=lambda sha256: (last.get(sha256, 0), sha256))
        damaged = []
        for sha256 in oldest_first[: -(-len(there) // CHECKED_SHARE)]:
            if self.is_whole(sha256):
                self._index.execute("INSERT OR REPLACE INTO checked VALUES (?, ?)", [sha256, run])
            else:
                damaged.append(sha256)
        return damaged

    def forget(self, sha256: str) -> list[str]:
        """Have ``take`` copy the files of a hash again; returns their names, or the hash where it has none.

        The damaged bytes stay until then: a backup that needs them can still be restored without them.
        """
        rows = self._index.execute("SELECT name FROM files WHERE sha256 = ?", [sha256]).fetchall()
        self._index.execute("DELETE FROM files WHERE sha256 = ?", [sha256])
        return [name for (name,) in rows] or [sha256]

    def is_whole(self, sha256: str) -> bool:
        """Whether the bytes of this hash are here and have it."""
        try:
            with self.path_of(sha256).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:  # a bad sector is an error of reading
            return False

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
        for table in ("files", "checked"):
            self._index.execute(f"DELETE FROM {table} WHERE sha256 NOT IN (SELECT sha256 FROM needed)")  # noqa: S608
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


class BadIndex(ValueError):
    """The list of a backup's files has a line that no backup writes. The text is a sentence."""


def files_in(backup: Path) -> Iterator[Named]:
    """The files of a backup, as its list names them. Raises BadIndex."""
    with gzip.open(backup / "files.gz", "rt") as listed:
        for number, line in enumerate(listed, 1):
            sha256, _, name = line.rstrip("\n").partition("  ")
            if not _SHA256.fullmatch(sha256) or not is_within(name):
                raise BadIndex(
                    f"Line {number} of {backup / 'files.gz'} is not a hash and the name of a file. "
                    "Nothing was restored: the list was damaged or changed. Take another backup."
                )
            yield Named(name, sha256)
