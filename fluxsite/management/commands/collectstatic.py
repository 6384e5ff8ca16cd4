"""``manage.py collectstatic``: Django's own, which does nothing where nothing has changed.

Naming and compressing 500 files takes some seconds, at each start.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.management.commands.collectstatic import Command as DjangoCommand


class Command(DjangoCommand):
    def handle(self, **options: Any) -> str | None:
        stamp, now = Path(settings.STATIC_ROOT) / ".collected", _fingerprint()
        if stamp.exists() and stamp.read_text() == now and not options["dry_run"]:
            return None
        stamp.unlink(missing_ok=True)  # whoever is killed now begins again
        done = super().handle(**options)
        if not options["dry_run"]:
            stamp.write_text(now)
        return str(done) if done else None


def _fingerprint() -> str:
    """Of the names, sizes and times of all files, and of how they are kept."""
    lines = [settings.STORAGES["staticfiles"]["BACKEND"], *sorted(_files())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _files() -> Iterator[str]:
    for finder in get_finders():
        for name, storage in finder.list([]):
            facts = Path(storage.path(name)).stat()
            yield f"{storage.path(name)} {facts.st_size} {facts.st_mtime_ns}"
