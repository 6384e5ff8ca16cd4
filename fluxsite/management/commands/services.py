"""``manage.py services``: the studio as systemd units."""

import os
import pwd
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from fluxsite.management.commands.up import gunicorn
from fluxsite.management.commands.workers import add_slot_arguments, slots_from
from operations import services
from operations.services import TARGET, Installation

# What slots and the pages set for themselves.
_NOT_KEPT = {"FLUXSITE_DEVICE"}


class Command(BaseCommand):
    help = (
        "install: write the units for this machine's slots, and start them. status, logs: what systemd says. "
        "uninstall: stop and remove them; data and settings stay."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["install", "status", "logs", "uninstall"])
        parser.add_argument("--user", action="store_true", help="as units of your own, without root")
        parser.add_argument("--dry-run", action="store_true", help="print files and commands; do nothing")
        parser.add_argument("--account", help="who runs it (default: whose the data directory is)")
        parser.add_argument("--bind", default="127.0.0.1:8000", help="address and port of the pages")
        add_slot_arguments(parser)

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        self.dry, self.of_user = options["dry_run"], options["user"]
        getattr(self, f"_{action}")(options)

    def _install(self, options: dict[str, Any]) -> None:
        where = self._installation(options)
        slots = slots_from(options)
        for path, text in services.files(where, slots, gunicorn(options["bind"])).items():
            self._write(path, text)
        if not (where.settings / "environment").exists():
            self._write(where.settings / "environment", services.environment_file(_variables()))
        self._systemctl("daemon-reload")
        self._systemctl("enable", "--now", TARGET)
        self.stdout.write(f"Settings are in {where.settings}/environment; after a change: restart {TARGET}.")

    def _uninstall(self, options: dict[str, Any]) -> None:
        where = self._installation(options)
        self._systemctl("disable", "--now", TARGET)
        for path in [*where.units.glob("fluxsite*.service"), where.units / TARGET]:
            self.stdout.write(f"Remove {path}")
            if not self.dry:
                path.unlink(missing_ok=True)
        self._systemctl("daemon-reload")

    def _status(self, options: dict[str, Any]) -> None:
        self._systemctl("status", "--no-pager", "--lines", "0", TARGET, "fluxsite-*", check=False)

    def _logs(self, options: dict[str, Any]) -> None:
        self._do(["journalctl", *self._ours(), "--output", "cat", "--follow", "--unit", "fluxsite-*"], False)

    def _installation(self, options: dict[str, Any]) -> Installation:
        program, data = Path(settings.BASE_DIR), Path(settings.DATA_DIR)
        if self.of_user:
            return Installation.of_user(program, data, sys.executable)
        account = options["account"] or pwd.getpwuid(data.stat().st_uid).pw_name
        if account == "root":
            raise CommandError(
                f"{data} belongs to root, and nothing here needs root: make an account, give it the "
                f"directory (chown -R), and name it with --account."
            )
        return Installation.of_system(program, data, sys.executable, account)

    def _write(self, path: Path, text: str) -> None:
        if self.dry:
            self.stdout.write(f"# {path}\n{text}")
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Settings may hold a password.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
        except PermissionError as error:
            raise CommandError(f"{path} cannot be written: run it with sudo, or with --user.") from error
        self.stdout.write(f"Wrote {path}")

    def _systemctl(self, *words: str, check: bool = True) -> None:
        self._do(["systemctl", *self._ours(), *words], check)

    def _ours(self) -> list[str]:
        return ["--user"] if self.of_user else []

    def _do(self, command: list[str], check: bool) -> None:
        self.stdout.write(f"$ {' '.join(command)}")
        self.stdout.flush()
        if self.dry:
            return
        if shutil.which(command[0]) is None:
            raise CommandError(f"There is no {command[0]}: this machine does not run systemd.")
        status = subprocess.run(command, check=False).returncode
        if check and status:
            raise CommandError(f"{command[0]} ended with {status}: see above.")


def _variables() -> dict[str, str]:
    """The settings as they are now, and where the data is."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("FLUXSITE_")}
    kept = {name: value for name, value in ours.items() if name not in _NOT_KEPT}
    return {"FLUXSITE_DATA_DIR": str(settings.DATA_DIR), **kept}
