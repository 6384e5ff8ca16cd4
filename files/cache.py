"""Copies on this host of files that are kept elsewhere: each whole and of the hash that was asked for."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from files.storage import Damaged


class Cache:
    """Files of at most ``most`` bytes together; those that were asked for longest ago go first.

    Several processes may use it at once: a file comes in by a rename, and one that is open outlives its name.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most

    def get(self, sha256: str, suffix: str, fetch: Callable[[], Iterable[bytes]]) -> Path:
        """The file of this hash, fetched if it is not there. Raises Damaged, and what ``fetch`` raises."""
        path = self.folder / sha256[:2] / f"{sha256}{suffix}"
        try:
            os.utime(path)
        except FileNotFoundError:
            self._bring(path, sha256, fetch)
            self._make_room(path)
        return path

    def _bring(self, path: Path, sha256: str, fetch: Callable[[], Iterable[bytes]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        digest = hashlib.sha256()
        try:
            with draft.open("wb") as file:
                for chunk in fetch():
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                raise Damaged(f"{path.name}: its bytes have the hash {digest.hexdigest()}")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _make_room(self, wanted: Path) -> None:
        kept = sorted(self._files(), key=lambda entry: entry[1].st_mtime)
        size = sum(facts.st_size for _, facts in kept)
        for path, facts in kept:
            if size <= self.most:
                return
            if path != wanted:
                path.unlink(missing_ok=True)
                size -= facts.st_size

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("*/[!.]*"):
            try:
                yield path, path.stat()
            except FileNotFoundError:  # another process made room
                continue
