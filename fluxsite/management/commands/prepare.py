"""``manage.py prepare``: what a studio needs before its pages are served, after an install or an upgrade."""

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from accounts import setup
from fluxsite.management.commands.up import fetch_card, first_rows
from operations import studio


class Command(BaseCommand):
    help = (
        "Bring the database up to date, collect static files, and see to the first administrator. "
        "--verbosity 0: without the link to make them, which manage.py up prints."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
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
