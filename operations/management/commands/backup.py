"""``manage.py backup DIR``: a copy of everything that cannot be made again."""

from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from operations import backup


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
        with backup.Store(directory) as store:
            made = backup.make(store, partial(tqdm, unit=" files", disable=None))
            self._say(made)
            if keep:
                freed = store.forget_all_but(keep)
                self.stdout.write(f"{len(store.backups())} kept, {freed / 1e6:,.1f} MB freed.")

    def _say(self, made: Path) -> None:
        facts = backup.facts_of(made)
        new = f"{facts.copied:,} new ({facts.copied_bytes / 1e6:,.1f} MB)"
        self.stdout.write(f"{made}: {facts.files:,} files, of them {new}.")
        if facts.gone:
            self.stdout.write(f"{len(facts.gone):,} files were deleted meanwhile, or missing before.")
        for name in facts.damaged:
            self.stderr.write(self.style.ERROR(f"{name} is damaged, and not in the backup: manage.py verify"))
        if facts.damaged:
            raise CommandError(f"{len(facts.damaged)} files are damaged. All else is in the backup.")
