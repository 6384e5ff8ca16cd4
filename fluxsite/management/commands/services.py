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

from fluxsite import server, settings_reference
from fluxsite.management.commands.workers import add_slot_arguments, slots_from
from operations import account, services
from operations.services import TARGET, Installation

# What slots and the pages set for themselves.
_NOT_KEPT = {"FLUXSITE_DEVICE"}
# What Hugging Face's library reads.
_OF_THE_HUB = {"HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"}


class Command(BaseCommand):
    help = (
        "install: write the units for this machine's slots, and start them; again with other slots, those "
        "that are no longer wanted stop. status, logs: what systemd says. uninstall: stop and remove them; "
        "data and settings stay."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["install", "status", "logs", "uninstall"])
        parser.add_argument("--user", action="store_true", help="as units of your own, without root")
        parser.add_argument("--dry-run", action="store_true", help="print files and commands; do nothing")
        parser.add_argument("--account", help="who runs it (default: whose the data directory is)")
        parser.add_argument("--bind", default="127.0.0.1:8000", help="address and port of the pages")
        parser.add_argument("--no-web", action="store_true", help="workers only: pages are on another host")
        parser.add_argument("--no-workers", action="store_true", help="draw on other hosts")
        add_slot_arguments(parser)

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        self.dry, self.of_user = options["dry_run"], options["user"]
        getattr(self, f"_{action}")(options)

    def _install(self, options: dict[str, Any]) -> None:
        slots = [] if options["no_workers"] else slots_from(options)
        web = [] if options["no_web"] else server.command(options["bind"], settings.FLUXSITE_WAITING_REQUESTS)
        if not slots and not web:
            raise CommandError("--no-web and --no-workers together leave nothing to install.")
        where = self._installation(options)
        if where.account and not self.dry:
            self._see_to_account(where)
        before, wanted = services.installed(where), services.files(where, slots, web)
        self._write_settings(where)
        for path, text in wanted.items():
            self._write(path, text)
        self._systemctl("daemon-reload")
        self._remove([path for path in before if path not in wanted])
        self._systemctl("enable", "--now", TARGET)
        self._say_what_next(where, bool(before))

    def _uninstall(self, options: dict[str, Any]) -> None:
        where = self._folders("root")
        there = services.installed(where)
        if not there:
            self.stdout.write("Nothing is installed here.")
        if where.units / TARGET in there:
            self._systemctl("disable", "--now", TARGET)
        self._remove(there)

    def _remove(self, paths: list[Path]) -> None:
        """Stop what they are for, and delete them when it has: they say how it stops."""
        if not paths:
            return
        names = [name for name in map(services.unit_of, paths) if name]
        self.stdout.write(f"No longer wanted: {', '.join(names)}. A worker finishes its picture first.")
        self._systemctl("stop", *names, check=False)  # what is not there need not be stopped
        for path in paths:
            self.stdout.write(f"Remove {path}")
            if not self.dry:
                path.unlink(missing_ok=True)
        self._systemctl("daemon-reload")

    def _say_what_next(self, where: Installation, was_there: bool) -> None:
        self.stdout.write(f"Settings are in {where.environment}; after a change: restart {TARGET}.")
        if was_there:
            self.stdout.write(f"What ran before goes on as it was until you restart {TARGET}.")
        if self.of_user:
            self.stdout.write("So that it runs from boot on, logged in or not: loginctl enable-linger")

    def _status(self, options: dict[str, Any]) -> None:
        self._systemctl("status", "--no-pager", "--lines", "0", TARGET, "fluxsite-*", check=False)

    def _logs(self, options: dict[str, Any]) -> None:
        self._do(["journalctl", *self._ours(), "--output", "cat", "--follow", "--unit", "fluxsite-*"], False)

    def _installation(self, options: dict[str, Any]) -> Installation:
        if self.of_user:
            return self._folders("")
        name = options["account"] or Path(settings.DATA_DIR).owner()
        if name == "root":
            raise CommandError(
                f"{settings.DATA_DIR} belongs to root, and nothing here needs root: make an account, give it "
                f"the directory (chown -R), and name it with --account."
            )
        try:
            pwd.getpwnam(name)
        except KeyError as error:
            raise CommandError(f"There is no account {name}: useradd --create-home {name}") from error
        return self._folders(name)

    def _folders(self, account: str) -> Installation:
        facts = Path(settings.BASE_DIR), Path(settings.DATA_DIR), sys.executable
        return Installation.of_user(*facts) if self.of_user else Installation.of_system(*facts, account)

    def _see_to_account(self, where: Installation) -> None:
        """That the services can run as the account. Commands of root's leave files of root's."""
        if os.geteuid():
            raise CommandError(
                "Only root may install for the whole system: run it with sudo, or with --user."
            )
        if given := sum(account.hand_over(folder, where.account) for folder in where.written):
            self.stdout.write(f"Gave {where.account} what root had made in {where.data}: {given}")
        if found := account.unwritable(where.written, where.account):
            folders = " ".join(map(str, where.written))
            raise CommandError(
                f"{where.account} cannot write all of its data: {found}\nRun chown -R {where.account} "
                f"{folders}, and see that it can enter the directories above."
            )
        _, reason = account.run_as(where.account, [where.python, str(where.program / "manage.py"), "check"])
        if reason:
            raise CommandError(
                f"{where.account} cannot run fluxsite: {reason}\nIt must be able to read {where.program} and "
                f"Python itself; other people's home directories are closed to it."
            )
        if reason := account.run_as(where.account, ["mkdir", "-p", str(where.cache)])[1]:
            self.stderr.write(f"A model from the hub cannot be kept: {reason}. Give {where.account} a home.")

    def _write_settings(self, where: Installation) -> None:
        """Once; afterwards they are the operator's."""
        if not where.environment.exists():
            variables = _variables()
            self._write(where.environment, services.environment_file(variables))
            self.stdout.write(f"Settings taken from your environment: {', '.join(sorted(variables))}.")
        elif not self.dry:
            self._compare_data_directory(where)

    def _compare_data_directory(self, where: Installation) -> None:
        """The units may write there only, whatever the settings say."""
        kept = services.data_directory(where.environment.read_text()) or str(where.program)
        if kept != str(where.data):
            raise CommandError(
                f"{where.environment} says FLUXSITE_DATA_DIR={kept}, and your environment {where.data}. Make "
                f"them the same: change the file, or export the variable (and use sudo -E)."
            )

    def _write(self, path: Path, text: str) -> None:
        if self.dry:
            self.stdout.write(f"# {path}\n{text}")
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                # Settings may hold a password. Of units that not everybody may read systemd complains.
                os.fchmod(file.fileno(), 0o644 if path.name in services.UNITS else 0o600)
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
    known = {setting.name for setting in settings_reference.settings()} - _NOT_KEPT | _OF_THE_HUB
    kept = {name: value for name, value in os.environ.items() if name in known}
    return {"FLUXSITE_DATA_DIR": str(settings.DATA_DIR), **kept}
