"""``manage.py offboard USER``: close an account, and hand over or delete what its owner made."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import LastAdministrator, User
from generation import offboarding
from generation.words import megabytes

LAP_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Close an account, then give its pictures, jobs, collections and LoRAs to somebody, or delete them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="user name")
        choice = parser.add_mutually_exclusive_group(required=True)
        choice.add_argument("--transfer-to", metavar="OTHER", help="who gets the work")
        choice.add_argument("--purge", action="store_true", help="delete all of it, files included")
        parser.add_argument("--dry-run", action="store_true", help="only say what there is")

    def handle(self, *args: Any, user: str, transfer_to: str | None, dry_run: bool, **options: Any) -> None:
        leaving = _user(user)
        to = _user(transfer_to) if transfer_to else None
        has = offboarding.belongings(leaving)
        self.stdout.write(
            f"{leaving}: {has.images} pictures, {has.jobs} jobs, {has.collections} collections, "
            f"{has.loras} LoRAs ({has.shared} shared), {megabytes(has.size / 1e6)}; "
            f"{has.tokens} tokens, {has.links} share links."
        )
        if dry_run:
            self.stdout.write("Nothing was changed.")
            return
        try:
            row = offboarding.begin(leaving, to)
        except (offboarding.Refused, LastAdministrator) as error:
            raise CommandError(str(error)) from error
        while not offboarding.go_on(row, LAP_SECONDS):
            self._say(leaving)
        row.refresh_from_db()
        if to:
            self.stdout.write(f"Done: {row.images} pictures and the rest are {to}'s now.")
        else:
            self.stdout.write(
                f"Done: all is deleted, {megabytes(row.freed / 1e6)} are free. The ledger stays."
            )

    def _say(self, leaving: User) -> None:
        left = offboarding.belongings(leaving)
        if left.active:
            self.stdout.write(f"Waits until {left.active} running jobs have stopped.")
            time.sleep(LAP_SECONDS)
        else:
            self.stdout.write(f"{left.images} pictures, {left.jobs} jobs, {left.loras} LoRAs are left.")


def _user(name: str) -> User:
    user = User.objects.named(name).first()
    if user is None:
        raise CommandError(f"There is no user called {name}.")
    return user
