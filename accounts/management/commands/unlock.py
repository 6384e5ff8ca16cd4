"""``manage.py unlock USER``: let somebody log in again who tried too many passwords."""

from argparse import ArgumentParser
from typing import Any

from axes.utils import reset
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User


class Command(BaseCommand):
    help = "Forget the failed logins of an account, from wherever they came."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="user name")

    def handle(self, *args: Any, user: str, **options: Any) -> None:
        found = User.objects.named(user).first()
        if found is None:
            raise CommandError(f"There is no user called {user}.")
        reset(username=found.username)
        self.stdout.write(f"{found} may log in.")
