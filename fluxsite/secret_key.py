"""The secret key that signs sessions, links and wake-ups: made once, in a file only its owner reads."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path


def read_or_create(path: Path) -> str:
    """Return the key in ``path``; make one of 86 characters (512 bits) first if the file is missing.

    Two processes that start at once agree: the file is written whole under another name and linked
    into place, and the one that comes second reads what the first one linked.
    """
    if not path.exists():
        _create(path)
    return path.read_text().strip()


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # made exclusively, mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(64))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):  # another process was first: its key counts
        os.link(draft, path)
    Path(draft).unlink()
