"""``manage.py settings_reference``: the page of all settings, docs/settings.md."""

from typing import Any

from django.core.management.base import BaseCommand

from fluxsite.settings_reference import page


class Command(BaseCommand):
    help = "Print docs/settings.md, made of the settings' code and comments."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(page(), ending="")
