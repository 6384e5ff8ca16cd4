"""The log on the disk: the file that all processes write, and older ones, which are kept compressed.

Whoever writes a line looks first whether the file is still the one that it has open
(``WatchedFileHandler``), so renaming it is all that beginning a new one takes. No process waits for another:
else one that is frozen would stop them all.
"""

import gzip
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import IO, Any

LEVELS = ("debug", "info", "warning", "error", "critical")
# A process that had the file open may still be writing its line.
SETTLED_SECONDS = 30.0
POLL_SECONDS = 0.2
Line = dict[str, Any]


def current(folder: Path) -> Path:
    return folder / "fluxsite.log"


def older(folder: Path) -> list[Path]:
    """The files that are written no more, the oldest first; their names hold the time."""
    return sorted(folder.glob("fluxsite-*.log*"))


class LogFile(WatchedFileHandler):
    """Writes the log, and begins a new file when this one has more than ``most`` bytes."""

    def __init__(self, folder: Path, most: int) -> None:
        super().__init__(current(folder), delay=True)
        self.folder, self.most = folder, most
        self.has_complained = False

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        with suppress(OSError):  # it is written on as it is
            if self.stream and os.fstat(self.stream.fileno()).st_size > self.most:
                begin(self.folder, self.most)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say once, in a sentence, that the file cannot be written. The terminal or journal has the line."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._drop_stream()
        if not self.has_complained:
            self.has_complained = True
            sys.stderr.write(
                f"The log {self.baseFilename} cannot be written: {error.strerror}. Make room on that disk, "
                "or give the file to the account that runs fluxsite. Until then the log is here only.\n"
            )

    def _drop_stream(self) -> None:
        """Forget what could not be written, else each later line would try it again. The next one reopens."""
        if self.stream:
            with suppress(OSError):
                self.stream.close()
            self.stream = None


def begin(folder: Path, larger_than: int) -> int:
    """A new file if this one has more bytes; returns how many it began. Nobody waits for who is at it."""
    file = current(folder)
    lock = os.open(folder, os.O_RDONLY)
    try:
        flock(lock, LOCK_EX | LOCK_NB)
        if file.stat().st_size <= larger_than:
            return 0
        file.rename(folder / f"fluxsite-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.log")
    except (BlockingIOError, FileNotFoundError):
        return 0
    finally:
        os.close(lock)
    return 1


def rotate(folder: Path, larger_than: int) -> int:
    """Begin a new file if this one has more bytes, and compress those before; returns how many it began."""
    begun = begin(folder, larger_than)
    for path in older(folder):
        if path.suffix == ".log" and time.time() - path.stat().st_mtime > SETTLED_SECONDS:
            _compress(path)
    return begun


def _compress(path: Path) -> None:
    """In its place is either the file or its compressed form, whenever this is killed."""
    draft = path.with_name(f".{path.name}.gz")
    with path.open("rb") as source, gzip.open(draft, "wb") as target:
        shutil.copyfileobj(source, target)
    stat = path.stat()
    os.utime(draft, (stat.st_atime, stat.st_mtime))
    draft.replace(path.with_name(f"{path.name}.gz"))
    path.unlink()


def chosen(job: str = "", level: str = "debug") -> Callable[[Line], bool]:
    """Whether a line is about the job, and at least so bad."""
    wanted = set(LEVELS[LEVELS.index(level) :])

    def is_wanted(line: Line) -> bool:
        return line.get("level", "info") in wanted and (not job or line.get("job") == job)

    return is_wanted


def lines(folder: Path) -> Iterator[Line]:
    """Every line there is, the oldest first."""
    for path in [*older(folder), current(folder)]:
        with suppress(FileNotFoundError), _opened(path) as file:  # it may be compressed or deleted meanwhile
            yield from map(_parsed, file)


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", errors="replace") if path.suffix == ".gz" else path.open(errors="replace")


def follow(folder: Path) -> Iterator[Line]:
    """Every line from now on, for ever, also when a new file is begun."""
    path = current(folder)
    file = _opened_or_made(path)
    file.seek(0, os.SEEK_END)
    while True:
        with file:
            yield from _until_renamed(file, path)
        file = _opened_or_made(path)
        file.seek(0)


def _opened_or_made(path: Path) -> IO[str]:
    """In one step: another process may rename the file between a look and the opening."""
    return path.open("a+", errors="replace")


def _until_renamed(file: IO[str], path: Path) -> Iterator[Line]:
    begun = ""
    while True:
        begun += file.readline()
        if begun.endswith("\n"):
            yield _parsed(begun)
            begun = ""
        elif _was_renamed(file, path):
            # Once more to its end: a line may have come between the question and this.
            yield from map(_parsed, file)
            return
        else:
            time.sleep(POLL_SECONDS)


def _was_renamed(file: IO[str], path: Path) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:  # and nobody has written since
        return False


def _parsed(text: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        return {"event": text.rstrip("\n")}
    return line if isinstance(line, dict) else {"event": text.rstrip("\n")}
