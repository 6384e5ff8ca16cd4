"""``manage.py backup DIR``: a copy of everything that cannot be made again."""

import sqlite3
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from tqdm import tqdm

from operations import backup
from operations.backup_store import Busy, Store

NAMED_AT_MOST = 20


class Command(BaseCommand):
    help = (
        "Copy the database, the pictures and LoRAs, and the secret key into DIR, while the studio works. "
        "Files that an earlier backup in DIR has are not copied again. Keep DIR as private as the studio."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("directory", type=Path, metavar="DIR")
        parser.add_argument("--keep", type=int, metavar="N", help="then delete all but the newest N backups")

    def handle(self, *args: Any, directory: Path, keep: int | None, **options: Any) -> None:
        if keep is not None and keep < 1:
            raise CommandError(f"--keep {keep}: keep 1 backup or more.")
        for ours in (settings.MEDIA_ROOT, settings.VAR_DIR):
            if directory.resolve().is_relative_to(Path(ours).resolve()):
                raise CommandError(
                    f"{directory} is inside of {ours}, and would be lost with it. Name another."
                )
        try:
            self._back_up(directory, keep)
        except Busy as error:
            raise CommandError(f"Another backup into {directory} is being made. Wait for it.") from error
        except (OSError, sqlite3.Error, DatabaseError) as error:
            raise CommandError(
                f"No backup was made: {error}. Earlier ones are whole. Mend it and run this again; "
                "files that were copied are not copied twice."
            ) from error

    def _back_up(self, directory: Path, keep: int | None) -> None:
        with Store(directory) as store:
            self._say(backup.make(store, partial(tqdm, unit=" files", disable=None)))
            if keep:
                freed = store.forget_all_but(keep)
                self.stdout.write(f"{len(store.backups())} kept, {freed / 1e6:,.1f} MB freed.")

    def _say(self, made: Path) -> None:
        facts = backup.facts_of(made)
        new = f"{facts.copied:,} new ({facts.copied_bytes / 1e6:,.1f} MB)"
        self.stdout.write(f"{made}: {facts.files:,} files, of them {new}.")
        if facts.gone:
            self.stdout.write(f"{len(facts.gone):,} files were deleted meanwhile.")
        for name in facts.rotten[:NAMED_AT_MOST]:
            self.stderr.write(self.style.ERROR(f"{name}: its copy of an earlier backup was damaged"))
        for name in facts.damaged[:NAMED_AT_MOST]:
            self.stderr.write(self.style.ERROR(f"{name} is missing or damaged"))
        if facts.damaged:
            raise CommandError(
                f"{len(facts.damaged):,} files are missing or damaged: manage.py verify --hash. "
                "All else is in the backup; no older one was deleted."
            )
        if facts.rotten:
            raise CommandError(
                f"{len(facts.rotten):,} files of earlier backups were damaged, and the studio has them no "
                "more. This backup is whole. Look at the disk of the backups."
            )
