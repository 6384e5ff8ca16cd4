"""``manage.py verify``: whether every row has its file, and every file its row."""

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from files.storage import Away
from generation.models import Image
from loras.models import Lora
from operations import leftovers, studio, verification
from operations.leftovers import TooManyOrphans
from operations.studio import ForeignFiles
from operations.verification import Fault


class Command(BaseCommand):
    help = (
        "Look for rows without files, files without rows, and with --hash for files whose bytes were "
        "changed. It may run beside everything else."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--hash", action="store_true", help="read every file and compare its sha256")
        parser.add_argument(
            "--repair", action="store_true",
            help="move files without rows to the quarantine, bring missing ones back from it, make missing "
            "thumbnails anew, and mark other rows (in the admin: damaged files)",
        )  # fmt: skip
        parser.add_argument(
            "--all-orphans", action="store_true",
            help="with --repair: move files without rows however many they are",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["repair"]:
                self._check_owner(options["all_orphans"])
            self._verify(options["hash"], options["repair"])
        except (ForeignFiles, TooManyOrphans) as error:
            raise CommandError(str(error)) from error
        except Away as error:
            raise CommandError(f"{error} Ask again: what was mended until now stays so.") from error

    @staticmethod
    def _check_owner(all_orphans: bool) -> None:
        """Refuse where the database may not be the one that these files belong to."""
        studio.confirm()
        if not all_orphans:
            leftovers.believable_orphans(verification.FOLDERS)

    def _verify(self, hash: bool, repair: bool) -> None:
        faults = self._faults(hash)
        for fault in faults:
            done = f": {verification.repair(fault)}" if repair else ""
            self.stdout.write(f"{fault.what:8} {fault.file}{done}")
        if repair:
            verification.forget_mended({fault.file for fault in faults}, hash)
        found = Counter(fault.what for fault in faults)
        changed = f"{found['changed']} changed" if hash else "hashes not looked at"
        self.stdout.write(f"{found['missing']} missing, {found['orphan']} without a row, {changed}.")
        if faults and not repair:
            raise CommandError("--repair moves such files to the quarantine and marks the rows.")

    def _faults(self, with_hash: bool) -> list[Fault]:
        rows = Image.objects.count() + Lora.objects.count()
        named = tqdm(verification.named_files(), total=2 * rows, unit=" files", disable=None, leave=False)
        faults = [fault for one in named if (fault := verification.fault_of(one, with_hash))]
        return faults + list(verification.orphans())
