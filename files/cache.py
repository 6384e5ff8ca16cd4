"""Copies on this host of files that are kept elsewhere: each whole and of the hash that was asked for."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from files.storage import Damaged

# A job asks for its LoRAs one after the other, and reads them when it has all.
SPARED_SECONDS = 300.0


class Cache:
    """Files of at most ``most`` bytes together, on a disk that keeps ``floor`` bytes free.

    Those that were asked for longest ago go first; none that was asked for lately, whatever that costs.
    Several processes may use it at once: a file comes in by a rename, and one that is open outlives its name.
    """

    def __init__(self, folder: Path, most: int, floor: int = 0) -> None:
        self.folder, self.most, self.floor = folder, most, floor
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, sha256: str, suffix: str, fetch: Callable[[], Iterable[bytes]]) -> Path:
        """The file of this hash, fetched if it is not there. Raises Damaged, and what ``fetch`` raises."""
        path = self.folder / sha256[:2] / f"{sha256}{suffix}"
        try:
            os.utime(path)
        except FileNotFoundError:
            self._bring(path, sha256, fetch)
            self._make_room()
        return path

    def free_bytes(self) -> int:
        """Of the disk, which copies leave where it has too little."""
        if self._free() < self.floor:
            self._make_room()
        return self._free()

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _bring(self, path: Path, sha256: str, fetch: Callable[[], Iterable[bytes]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        digest = hashlib.sha256()
        try:
            with draft.open("wb") as file:
                for chunk in fetch():
                    self.free_bytes()  # nobody said how long the file is
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                raise Damaged(f"{path.name}: its bytes have the hash {digest.hexdigest()}")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _make_room(self) -> None:
        old = time.time() - SPARED_SECONDS
        kept = sorted(self._files(), key=lambda entry: entry[1].st_mtime)
        size = sum(facts.st_size for _, facts in kept)
        for path, facts in kept:
            if facts.st_mtime > old or (size <= self.most and self._free() >= self.floor):
                return
            path.unlink(missing_ok=True)
            size -= facts.st_size

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("*/[!.]*"):
            try:
                yield path, path.stat()
            except FileNotFoundError:  # another process made room
                continue
