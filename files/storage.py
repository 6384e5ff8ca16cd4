"""What the product needs of a place for files, beside Django's ``Storage``."""

from datetime import datetime
from pathlib import Path
from typing import Protocol

from django.core.files.base import File
from django.http import HttpResponseBase


class PrivateStorage(Protocol):
    """A file at its name is whole, and no name is written twice."""

    # Where files are put together that are not whole yet: a directory of this host.
    drafts: Path
    # The most that this host keeps of copies; None where the files themselves are here.
    cache_bytes: int | None
    # Whether browsers are sent on to the store itself, by a link that is over soon.
    redirects: bool

    def save(self, name: str, content: "File[bytes]") -> str: ...

    def open(self, name: str) -> "File[bytes]": ...

    def exists(self, name: str) -> bool: ...

    def delete(self, name: str) -> None: ...

    def listdir(self, path: str) -> tuple[list[str], list[str]]: ...

    def size(self, name: str) -> int: ...

    def get_modified_time(self, name: str) -> datetime: ...

    def adopt(self, path: Path, name: str) -> None:
        """Take a draft in at ``name``; it is gone from ``path`` afterwards. What is there is replaced."""

    def local(self, name: str, sha256: str) -> Path:
        """The file as one of this host. Raises FileNotFoundError, and Damaged where its hash is another."""

    def free_bytes(self) -> int | None:
        """Room for files; None where nobody can tell."""

    def respond(self, name: str, content_type: str, *, download_as: str = "") -> HttpResponseBase:
        """Send the file to a browser that may have it. Raises FileNotFoundError, where that can be known."""


class Damaged(OSError):
    """The bytes are not those that were stored."""


class Away(OSError):
    """The store does not answer. It may soon."""
