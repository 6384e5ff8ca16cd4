"""Models that all hosts share: in the storage by hash, and on each host a folder of links to its copies.

    models/NAME.json             {"parts": [{"path", "sha256", "size"}, …], …}
    models/parts/ab12….safetensors

A name is given once: what it means never changes. The storage's cache bounds what a host keeps, so a link may
lead nowhere until its file is fetched again.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from django.core.files.base import ContentFile, File

from files import storage
from files.storage import Damaged

FOLDER = "models"
INDEX = "shared.json"
WEIGHTS = ".safetensors"
_SHA256 = re.compile(r"[0-9a-f]{64}")
Progress = Callable[[Iterable["Part"]], Iterable["Part"]]


@dataclass(frozen=True)
class Part:
    """A file of a model. ``path``: within the model's directory. ``size``: bytes."""

    path: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """In the storage."""
        return f"{FOLDER}/parts/{self.sha256}{PurePosixPath(self.path).suffix}"


class NameTaken(Exception):
    """There is another model of this name."""


def names() -> list[str]:
    """Of the models that are there."""
    try:
        _, files = storage.listdir(FOLDER)
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def parts_of(name: str) -> list[Part]:
    """Raises FileNotFoundError with a sentence."""
    return _parts(_index(name))


def share(directory: Path, name: str, progress: Progress = iter, **facts: Any) -> list[Part]:
    """Put a model in diffusers layout into the storage; ``facts`` are kept in its index.

    What is killed half-way goes on where it was when it is asked again. Raises NameTaken.
    """
    parts = [Part(path, *_digest(directory / path)) for path in _paths(directory)]
    text = json.dumps({**facts, "parts": [asdict(part) for part in parts]}, indent=1)
    index = f"{FOLDER}/{name}.json"
    if storage.exists(index) and _parts(_index(name)) != parts:
        raise NameTaken(name)
    for part in progress(parts):
        if not storage.exists(part.name):
            with (directory / part.path).open("rb") as file:
                storage.save(part.name, File(file))
    storage.save(index, ContentFile(text.encode()))
    return parts


def remove(name: str) -> int:
    """Delete a model, but for files that another one has; returns the bytes. Raises FileNotFoundError."""
    ours = {part.name: part.size for part in parts_of(name)}
    storage.delete(f"{FOLDER}/{name}.json")
    kept = {part.name for other in names() for part in parts_of(other)}
    gone = ours.keys() - kept
    for part in gone:
        storage.delete(part)
    return sum(ours[part] for part in gone)


def fetch(name: str, folder: Path, *, weights: bool) -> None:
    """Have a model in ``folder`` as links to files of this host; without ``weights`` only what describes it.

    Raises FileNotFoundError, Damaged, and Away: see ``files.storage``; and OSError where there is no room.
    """
    index = _index(name)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [part for part in _parts(index) if weights or not part.path.endswith(WEIGHTS)]
    size = sum(part.size for part in wanted)
    said = f"The model {name} has {size / 1e6:,.0f} MB"
    if storage.cache_bytes is not None and size > storage.cache_bytes:
        raise OSError(f"{said}: make FLUXSITE_CACHE_MB larger than that.")
    for part in wanted:
        _link(folder / part.path, storage.local(part.name, part.sha256))
    if lost := [part.path for part in wanted if not (folder / part.path).exists()]:
        raise OSError(
            f"{said}, and {', '.join(lost)} had to go again: make room on this host's disk, "
            "or FLUXSITE_CACHE_MB larger."
        )
    _replace(folder / INDEX, lambda draft: draft.write_text(json.dumps(index)))


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not (link.is_symlink() and link.readlink() == target):
        _replace(link, lambda draft: draft.symlink_to(target))


def _replace(path: Path, make: Callable[[Path], Any]) -> None:
    """At once: other processes of this host read the folder."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    make(draft)
    draft.replace(path)


def _index(name: str) -> Any:
    try:
        with storage.open(f"{FOLDER}/{name}.json") as file:
            return json.load(file)
    except FileNotFoundError:
        there = ", ".join(names()) or "none"
        raise FileNotFoundError(f"There is no shared model {name}. There are: {there}.") from None


def _parts(index: Any) -> list[Part]:
    """The files that an index names. Raises Damaged where a name leads elsewhere: any host can write it."""
    parts = [Part(**part) for part in index["parts"]]
    for part in parts:
        if not (_SHA256.fullmatch(part.sha256) and is_within(part.path)):
            raise Damaged(
                f"The index of a shared model names {part.path!r}, which is no file within a model."
            )
    return parts


def is_within(name: str) -> bool:
    """Whether a name with slashes leads to a file within a folder, and to no other place."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and all(part not in ("", ".", "..") for part in parts)


def _paths(directory: Path) -> Iterator[str]:
    """What describes the model, and its folders. Weights beside them are of other programs."""
    for path in sorted(directory.rglob("*")):
        within = path.relative_to(directory)
        is_ours = len(within.parts) > 1 or path.suffix == ".json"
        if path.is_file() and is_ours and not any(part.startswith(".") for part in within.parts):
            yield within.as_posix()


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
