"""``manage.py limits_reference``: print docs/limits.md, the page of all limits."""

from typing import Any

from django.core.management.base import BaseCommand

from fluxsite.limits_reference import page


class Command(BaseCommand):
    help = "Print docs/limits.md: the limits of every route, generated from the code."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(page(), ending="")
