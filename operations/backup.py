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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import FileField, Model, QuerySet
from django.utils import timezone

from files import storage
from files.local import sync_directory
from files.storage import Damaged
from operations import dump, studio
from operations.backup_store import BadIndex, Named, Store, files_in

OURS = ("accounts", "loras", "generation")
# A query may name 32,766 rows on SQLite.
ASKED_AT_ONCE = 1000
Progress = Callable[[Iterable[Any]], Iterable[Any]]


class CannotRestore(Exception):
    """Nothing was restored. The text is a sentence for whoever asked."""


@dataclass
class Restored:
    """How many files were written, and the names of those whose bytes are damaged in the backup."""

    written: int = 0
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Facts:
    """What a backup holds.

    ``gone``: files that were deleted with their rows while it was made, after the database was copied.
    ``damaged``: files that are missing, or whose bytes are not those of their rows. The backup lacks them.
    ``rotten``: files whose copies from earlier backups were damaged, and that the studio has no more: those
    backups lack them. ``studio``: the id of the studio; empty in backups of release 0.1.
    """

    made_at: str
    database: str
    files: int
    copied: int
    copied_bytes: int
    gone: list[str]
    damaged: list[str]
    rotten: list[str] = field(default_factory=list)
    studio: str = ""


# Making one ------------------------------------------------------------------------------------------


def make(store: Store, progress: Progress = iter) -> Path:
    """Make a backup, while the studio works; returns its directory. What is killed leaves no backup.

    Files are copied before the database and after: those that are deleted in between are in the first round.
    Raises ForeignFiles where the files are not those of the database.
    """
    studio.confirm()
    rotten = {sha256: store.forget(sha256) for sha256 in store.check_share()}
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
        rotten=[name for sha256, names in rotten.items() if not store.is_whole(sha256) for name in names],
        studio=str(studio.identity().database),
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
        for column, rows in _naming(names):
            found.update(rows.select_for_update().values_list(column.name, flat=True))
    return found


def _naming(names: list[str]) -> Iterator[tuple[FileField, QuerySet[Any]]]:
    """The rows that name one of these, by the field in which they do."""
    for start in range(0, len(names), ASKED_AT_ONCE):
        some = names[start : start + ASKED_AT_ONCE]
        for model, column in _file_fields():
            yield column, model._default_manager.filter(**{f"{column.name}__in": some})


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
    for model, file_field in _file_fields():
        column, table = file_field.column, model._meta.db_table
        # A row's hash is of its main file; previews and thumbnails have none.
        sha256 = "sha256" if file_field.name == "file" else "''"
        cursor.execute(f"SELECT {column}, {sha256} FROM {table} WHERE {column} <> ''")  # noqa: S608 (ours)
        yield from (Named(*row) for row in cursor.fetchall())


def _file_fields() -> Iterator[tuple[type[Model], FileField]]:
    for model in apps.get_models():
        if model._meta.app_label in OURS:
            yield from ((model, field) for field in model._meta.get_fields() if isinstance(field, FileField))


# Reading one -----------------------------------------------------------------------------------------


def facts_of(backup: Path) -> Facts:
    return Facts(**json.loads((backup / "facts.json").read_text()))


def restore(store: Store, backup: Path, progress: Progress = iter) -> Restored:
    """Put the database and its files back as they were.

    What is here already is looked at by its hash and left alone. Bytes that are damaged in the backup are not
    written. May be done again when it was killed. Raises CannotRestore.
    """
    facts, files = facts_of(backup), _listed(backup)
    _check_database(facts)
    _check_owner(facts)
    for file in files:
        if not store.path_of(file.sha256).exists():
            raise CannotRestore(f"The backup does not have the bytes of {file.name}. Take another one.")
    if facts.studio:
        studio.write_id(UUID(facts.studio))
    restored = Restored()
    for file in progress(files):
        _put_back(store, file, restored)
    dump.restore(backup)
    if not facts.studio:
        studio.adopt()
    _forget(facts.gone)
    _write_private(Path(settings.VAR_DIR) / "secret_key", (backup / "secret_key").read_text())
    return restored


def _listed(backup: Path) -> list[Named]:
    try:
        return list(files_in(backup))
    except BadIndex as error:
        raise CannotRestore(str(error)) from error


def _check_database(facts: Facts) -> None:
    if facts.database != connection.vendor:
        raise CannotRestore(
            f"The backup is of {facts.database}, and FLUXSITE_DATABASE_URL names {connection.vendor}. "
            "Restore it into the same, then move the data."
        )


def _check_owner(facts: Facts) -> None:
    """Refuse a storage of another studio: its files would lose their rows."""
    stored = studio.stored_id()
    if stored is None or str(stored) == facts.studio:
        return
    try:
        here = studio.identity().database
    except DatabaseError:  # nothing was ever migrated here
        here = None
    if stored != here:
        raise CannotRestore(
            f"The files in {studio.place()} belong to the studio {stored}; the backup is of the studio "
            f"{facts.studio or 'of an unknown id'}, and the database here is of {here or 'none'}. Name an "
            "empty FLUXSITE_STORAGE_URL or FLUXSITE_DATA_DIR. If these files are to be this database's, "
            "first run: manage.py studio adopt"
        )


def _put_back(store: Store, file: Named, restored: Restored) -> None:
    """Write a file of the backup that is not here as it was; bytes are hashed before they get its name."""
    if storage.exists(file.name):
        with storage.open(file.name) as there:
            if hashlib.file_digest(there, "sha256").hexdigest() == file.sha256:
                return
    storage.drafts.mkdir(parents=True, exist_ok=True)
    draft = storage.drafts / f"restore-{uuid4()}.part"
    try:
        if _copy(store.path_of(file.sha256), draft) != file.sha256:
            restored.damaged.append(file.name)
            return
        storage.adopt(draft, file.name)
    finally:
        draft.unlink(missing_ok=True)
    restored.written += 1


def _copy(source: Path, target: Path) -> str:
    """Copy a file to the disk; returns the sha256 of what was written."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(1024**2):
            digest.update(chunk)
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    return digest.hexdigest()


def _forget(gone: list[str]) -> None:
    """End what was being deleted while the backup was made: a row goes, or its mere preview does."""
    for column, rows in _naming(gone):
        if column.blank:
            rows.update(**{column.name: ""})
        else:
            rows.delete()
