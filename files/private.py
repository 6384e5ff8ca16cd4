"""What the studio writes is readable by its own account only: database, logs, pictures, keys.

The settings call this, and every way to start reads them. Where nginx sends pictures itself (FLUXSITE_ACCEL),
the account's group may read media/ as well, and nothing else.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

UMASK = 0o077
FILE, FOLDER = 0o600, 0o700
GROUP_FILE, GROUP_FOLDER = 0o640, 0o750


class CannotWrite(Exception):
    """The studio cannot keep its data. The text is a sentence with the remedy, for whoever starts it."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"fluxsite cannot write to {folder}: {reason}. Make room on that disk, or give the directory to "
            "the account that runs fluxsite, or name another one in FLUXSITE_DATA_DIR."
        )


def begin(folders: list[Path], media: Path, *, group_reads_media: bool) -> None:
    """Set the process's umask, make the folders, and tighten those that an earlier release left open.

    Below a folder of 0700 nobody else reaches anything, so what lies deeper is left as it is. Raises
    CannotWrite where a folder cannot be made or written.
    """
    os.umask(UMASK)
    for folder in (*folders, media):
        _make(folder)
        mode = GROUP_FOLDER if folder == media and group_reads_media else FOLDER
        for path, allowed in ((folder, mode), *((file, FILE) for file in _files(folder) if folder != media)):
            _tighten(path, allowed)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(folder, error.strerror or str(error)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CannotWrite(folder, "It is read-only, or belongs to another account")


def open_to_others(folders: list[Path], media: Path, *, group_reads_media: bool) -> list[Path]:
    """Those of the folders, and of the files in them, that somebody else can reach."""
    found = [path for folder in folders for path in (folder, *_files(folder)) if _mode(path) & ~FOLDER]
    allowed = GROUP_FOLDER if group_reads_media else FOLDER
    return found + ([media] if _mode(media) & ~allowed else [])


def _files(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (path for path in folder.iterdir() if path.is_file() and not path.is_symlink())


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def _tighten(path: Path, allowed: int) -> None:
    """Take away what others may do. What another account owns stays as it is."""
    mode = _mode(path)
    if mode & ~allowed or mode & 0o070 != allowed & 0o070:
        with suppress(OSError):
            path.chmod(mode & allowed | allowed & 0o070)
