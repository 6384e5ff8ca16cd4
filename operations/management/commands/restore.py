"""``manage.py restore DIR``: put a backup back."""

import sqlite3
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from tqdm import tqdm

from accounts.models import User
from gpu.models import Worker
from operations import backup
from operations.backup_store import Store
from operations.management.commands.backup import NAMED_AT_MOST


class Command(BaseCommand):
    help = (
        "Put the newest backup in DIR back, or the one that --backup names: database, files, secret key. "
        "Stop the studio first, on all hosts."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("directory", type=Path, metavar="DIR")
        parser.add_argument("--backup", metavar="TIME", help="the name of one of its directories")
        parser.add_argument("--replace", action="store_true", help="what is here now is lost")

    def handle(self, *args: Any, directory: Path, replace: bool, **options: Any) -> None:
        self._check_target(replace)
        store = Store(directory)
        chosen = self._chosen(store, options["backup"])
        try:
            restored = backup.restore(store, chosen, partial(tqdm, unit=" files", disable=None))
        except backup.CannotRestore as error:
            raise CommandError(str(error)) from error
        except (OSError, sqlite3.Error, DatabaseError) as error:
            raise CommandError(
                f"Restored in part: {error}. Mend it and run this again; if it says that there are accounts, "
                "with --replace."
            ) from error
        self.stdout.write(
            f"Restored {chosen.name}; {restored.written:,} files written. Now: manage.py verify --hash"
        )
        if restored.damaged:
            self._say_damaged(restored.damaged)

    def _say_damaged(self, names: list[str]) -> None:
        for name in names[:NAMED_AT_MOST]:
            self.stderr.write(self.style.ERROR(f"{name} is damaged in the backup"))
        raise CommandError(
            f"{len(names):,} files are damaged in the backup and were not written; all else was restored. "
            "If another backup has them, copy its directory bytes/ over this one and restore again."
        )

    @staticmethod
    def _check_target(replace: bool) -> None:
        try:
            if Worker.objects.alive().exists():
                raise CommandError("Workers are running. Stop the studio first, on all hosts.")
            people = User.objects.count()
        except DatabaseError:
            return  # nothing was ever migrated here
        if people and not replace:
            raise CommandError(
                f"This studio has {people} accounts. With --replace the backup takes its place, "
                "and what is here is lost."
            )

    @staticmethod
    def _chosen(store: Store, name: str | None) -> Path:
        there = store.backups()
        chosen = [path for path in there if name in (None, path.name)]
        if not chosen:
            names = ", ".join(path.name for path in there) or "none"
            raise CommandError(f"There is no such backup in {store.folder}. There are: {names}.")
        return chosen[-1]
