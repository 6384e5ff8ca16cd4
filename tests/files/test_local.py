"""A file at its final name is whole, whatever goes wrong meanwhile."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage


class FullDisk(ContentFile[bytes]):
    """Content whose second half meets a full disk."""

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        yield b"first half"
        raise OSError(errno.ENOSPC, "No space left on device")


def test_it_keeps_what_it_is_given(media: Path) -> None:
    name = default_storage.save("images/a.png", ContentFile(b"whole"))
    assert (media / name).read_bytes() == b"whole"
    assert [path.name for path in (media / "images").iterdir()] == ["a.png"]


def test_a_full_disk_leaves_no_file_behind(media: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        default_storage.save("images/a.png", FullDisk(b""))
    assert list((media / "images").iterdir()) == []


def test_a_taken_name_is_left_alone(media: Path) -> None:
    first = default_storage.save("images/a.png", ContentFile(b"first"))
    second = default_storage.save("images/a.png", ContentFile(b"second"))
    assert first != second
    assert (media / first).read_bytes() == b"first"


@pytest.mark.parametrize("name", ["../escape.png", "/etc/passwd", "images/../../escape.png"])
def test_a_name_outside_media_is_refused(media: Path, name: str) -> None:
    with pytest.raises(Exception, match=r"path traversal|outside of the base path|could not be"):
        default_storage.save(name, ContentFile(b"x"))


def test_files_are_not_for_everyone_on_the_machine(media: Path) -> None:
    name = default_storage.save("images/a.png", ContentFile(b"private"))
    assert (media / name).stat().st_mode & 0o007 == 0
