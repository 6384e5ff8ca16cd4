"""``manage.py create_token USER``: make an API token and print it."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import ApiToken, User


class Command(BaseCommand):
    help = "Make an API token for a user and print it. It is shown this once: only its hash is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="user name")
        parser.add_argument("--name", default="command line", help="what the token is for")
        parser.add_argument("--days", type=int, default=365, help="days until it expires (default 365)")
        parser.add_argument(
            "--scope", action="extend", nargs="+", choices=ApiToken.SCOPES, metavar="SCOPE",
            help=f"what it may do: {', '.join(ApiToken.SCOPES)} (default generate read loras)",
        )  # fmt: skip

    def handle(
        self, *args: Any, user: str, name: str, days: int, scope: list[str] | None = None, **options: Any
    ) -> None:
        if days < 1:
            raise CommandError(f"--days {days}: a token must last 1 day or more.")
        owner = User.objects.named(user).first()
        if owner is None:
            raise CommandError(f"There is no user called {user}.")
        scopes = scope or ApiToken.DEFAULT_SCOPES
        if "admin" in scopes and not owner.is_staff:
            raise CommandError(f"--scope admin: {owner} is no administrator.")
        self.stdout.write(ApiToken.issue(owner, name, scopes, timedelta(days=days)))
