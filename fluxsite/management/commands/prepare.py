"""``manage.py prepare``: what a studio needs before its pages are served, after an install or an upgrade."""

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from accounts import setup
from fluxsite import __version__
from fluxsite.management.commands.up import fetch_card, first_rows
from operations import releases, studio


class Command(BaseCommand):
    help = (
        "Bring the database up to date, collect static files, and see to the first administrator. "
        "--verbosity 0: without the link to make them, which manage.py up prints."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            releases.refuse_newer(__version__)
            call_command("migrate", interactive=False, verbosity=0)
            releases.note(__version__)
            call_command("collectstatic", interactive=False, verbosity=0)
        except releases.NewerDatabase as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, OSError) as error:
            raise CommandError(
                f"The studio could not be prepared: {error}. Look at the free space and the permissions of "
                f"{settings.DATA_DIR}, and at FLUXSITE_DATABASE_URL; then start it again."
            ) from error
        fetch_card()
        first_rows(self.stdout)
        self._confirm_studio()
        if options["verbosity"] and (link := setup.link(settings.FLUXSITE_URL)):
            self.stdout.write(f"Make the first administrator (once, within a day): {link}")

    def _confirm_studio(self) -> None:
        """Give an empty storage the studio's id, and say so if the files are another studio's."""
        try:
            studio.confirm()
        except OSError as error:
            self.stderr.write(self.style.WARNING(str(error)))
