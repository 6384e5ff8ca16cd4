"""``manage.py studio``: which studio the database and the files belong to; ``adopt`` makes them agree."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from operations import studio


class Command(BaseCommand):
    help = (
        "Show which studio the database and the files belong to. «adopt» writes the database's id beside the "
        "files: from then on this database decides which of them are kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", nargs="?", choices=["adopt"])

    def handle(self, *args: Any, what: str | None, **options: Any) -> None:
        try:
            if what == "adopt":
                studio.adopt()
            studio.confirm()
        except OSError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"The database {studio.database()} and the files in {studio.place()} are those of the studio "
            f"{studio.identity().database}."
        )
