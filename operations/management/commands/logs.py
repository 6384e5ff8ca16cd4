"""``manage.py logs``: what the log holds, what it says now, and making room."""

from argparse import ArgumentParser
from collections import Counter, deque
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from operations import log_files, logs


class Command(BaseCommand):
    help = (
        "status: the files and what is in them. follow: the last lines, and then each new one, until Ctrl-C. "
        "clean: delete the older files, all but the one that is written. rotate: begin a new one if it is "
        "large, as housekeeping does each minute where it runs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["status", "follow", "clean", "rotate"])
        parser.add_argument("--job", metavar="ID", default="", help="only lines about this job")
        parser.add_argument(
            "--level", choices=log_files.LEVELS, default="debug", help="only lines at least so bad"
        )
        parser.add_argument("--lines", type=int, default=20, help="of those before, to begin with (20)")
        parser.add_argument("--once", action="store_true", help="do not wait for new ones")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"_{action}")(options)

    def _status(self, options: dict[str, Any]) -> None:
        wanted = log_files.chosen(options["job"], options["level"])
        for path in [*log_files.older(settings.LOG_DIR), log_files.current(settings.LOG_DIR)]:
            if path.exists():
                self.stdout.write(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
        levels = Counter(line.get("level", "") for line in log_files.lines(settings.LOG_DIR) if wanted(line))
        counts = [f"{levels[level]:,} {level}" for level in log_files.LEVELS if levels[level]]
        self.stdout.write(f"Lines: {', '.join(counts) or 'none'}")

    def _follow(self, options: dict[str, Any]) -> None:
        wanted = log_files.chosen(options["job"], options["level"])
        before = deque(filter(wanted, log_files.lines(settings.LOG_DIR)), maxlen=options["lines"])
        after = iter(()) if options["once"] else filter(wanted, log_files.follow(settings.LOG_DIR))
        try:
            for line in chain(before, after):
                self.stdout.write(logs.text_of(line))
                self.stdout.flush()
        except KeyboardInterrupt:
            return

    def _rotate(self, options: dict[str, Any]) -> None:
        log_files.rotate(settings.LOG_DIR, settings.FLUXSITE_LOG_MB * 10**6)

    def _clean(self, options: dict[str, Any]) -> None:
        paths = log_files.older(settings.LOG_DIR)
        size = sum(path.stat().st_size for path in paths)
        for path in paths:
            path.unlink()
        self.stdout.write(f"Deleted {len(paths)} files, {size / 1e6:.1f} MB.")
