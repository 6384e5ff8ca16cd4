"""``manage.py settings_reference``: print docs/settings.md, the page of all settings."""

from typing import Any

from django.core.management.base import BaseCommand

from fluxsite.settings_reference import page


class Command(BaseCommand):
    help = "Print docs/settings.md, generated from the code and comments of the settings."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(page(), ending="")
