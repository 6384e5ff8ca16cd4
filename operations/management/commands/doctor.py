"""``manage.py doctor``: what is wrong with this studio, and what mends it."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from gpu.model_trial import ModelTrial
from operations import diagnosis
from operations.health import Finding


class Command(ModelTrial):
    help = (
        "Check database, migrations, clock, disk, files, workers, queue, cleanup and settings, with a remedy "
        "for each problem. With --model instead: " + ModelTrial.help
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--model", action="store_true", help="try the model on each engine of this machine"
        )
        super().add_arguments(parser.add_argument_group("for --model"))  # type: ignore[arg-type]

    def handle(self, *args: Any, model: bool, **options: Any) -> None:
        if model:
            super().handle(*args, **options)
            return
        wrong = [finding.name for finding in diagnosis.findings() if not self._said(finding)]
        if wrong:
            raise CommandError(f"To be looked at: {', '.join(wrong)}.")
        self.stdout.write("All of it is in order.")

    def _said(self, finding: Finding) -> bool:
        self.stdout.write(f"{'ok' if finding.ok else 'WRONG':6} {finding.name:14} {finding.detail}")
        if not finding.ok and finding.remedy:
            self.stdout.write(f"{'':21} → {finding.remedy}")
        return finding.ok
