"""``manage.py cleanup``: delete what the policy says, or say what would go."""

import logging
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import filesizeformat
from tqdm import tqdm

from operations import cleaning, policy
from operations.cleaning import Tally
from operations.leftovers import Leftover
from operations.models import Kind
from operations.studio import ForeignFiles

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Delete what FLUXSITE_CLEANUP and the rules in the admin say: trash, drafts, old logs, what has "
        "expired. Files without a row are moved to the quarantine first. LoRAs in the library stay. It may "
        "be killed and run again at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would go; delete nothing")

        parser.add_argument(
            "--all-orphans", action="store_true",
            help="move files without a row to the quarantine however many they are",
        )  # fmt: skip

    def handle(self, *args: Any, dry_run: bool, all_orphans: bool, **options: Any) -> None:
        try:
            tallies = (
                cleaning.plan(all_orphans=all_orphans)
                if dry_run
                else cleaning.clean(_bar, all_orphans=all_orphans)
            )
        except ForeignFiles as error:
            log.error("The cleanup was refused: %s", error)
            raise CommandError(str(error)) from error
        for kind, limits in policy.now_in_force().items():
            self._say(kind, str(limits), tallies[kind])
        count, size = (sum(getattr(tally, name) for tally in tallies.values()) for name in ("count", "bytes"))
        self.stdout.write(f"{'Would delete' if dry_run else 'Deleted'} {count:,}, {filesizeformat(size)}.")
        if failed := sum(len(tally.failed) for tally in tallies.values()):
            raise CommandError(f"{failed} could not be deleted: see above. The rest was.")

    def _say(self, kind: Kind, limits: str, tally: Tally) -> None:
        self.stdout.write(f"{tally.count:9,} {filesizeformat(tally.bytes):>10}  {kind.label} ({limits})")
        for failure in tally.failed[:5]:
            self.stdout.write(f"{'':21} failed: {failure}")


def _bar(kind: Kind, ones: list[Leftover]) -> Iterable[Leftover]:
    """On a terminal a progress bar for each kind that has something to go."""
    return tqdm(ones, desc=kind.label, disable=None, leave=False) if ones else ones
