"""Copies on this host: whole, checked, and no more than allowed."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from files.cache import Cache
from files.storage import Damaged


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(cache: Cache, data: bytes) -> Path:
    return cache.get(sha(data), ".bin", lambda: [data])


def never() -> Iterable[bytes]:
    raise AssertionError("it was there")


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 100)
    path = put(cache, b"one")
    assert cache.get(sha(b"one"), ".bin", never) == path
    assert path.read_bytes() == b"one"


def test_what_was_asked_for_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10)
    one, two = put(cache, b"1111"), put(cache, b"2222")
    os.utime(one, (1, 1))
    os.utime(two, (2, 2))
    put(cache, b"1111")  # asked for again
    three = put(cache, b"3333")
    assert [path.exists() for path in (one, two, three)] == [True, False, True]


def test_one_that_is_larger_than_all_room_is_still_given(tmp_path: Path) -> None:
    assert put(Cache(tmp_path, 1), b"large").exists()


def test_bytes_of_another_hash_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        Cache(tmp_path, 100).get(sha(b"one"), ".bin", lambda: [b"two"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_fetch_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterable[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        Cache(tmp_path, 100).get(sha(b"whole"), ".bin", broken)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
