"""The secret key that signs sessions, links and wake-ups: made once, in a file only its owner reads."""

import os
import secrets
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
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(64))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first: its key counts
    finally:
        draft.unlink()
