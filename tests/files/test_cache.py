"""Copies on this host: whole, checked, and no more than allowed."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

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


def age(path: Path) -> Path:
    os.utime(path, (1, 1))
    return path


def test_what_was_asked_for_lately_stays_though_it_is_too_much(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10)
    old = age(put(cache, b"old"))
    of_a_job = [put(cache, data) for data in (b"1" * 8, b"2" * 8, b"3" * 8)]
    assert [path.exists() for path in (old, *of_a_job)] == [False, True, True, True]


def test_copies_leave_a_disk_that_has_too_little(tmp_path: Path) -> None:
    roomy, full = Cache(tmp_path, 10**9), Cache(tmp_path, 10**9, floor=10**18)
    one, two = age(put(roomy, b"one")), age(put(roomy, b"two"))
    roomy.free_bytes()
    assert one.exists()
    full.free_bytes()
    assert not one.exists()
    assert not two.exists()


def test_no_more_leave_than_the_disk_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, 10**9, floor=50)
    paths = [put(cache, data) for data in (b"1" * 30, b"2" * 30, b"3" * 30)]
    for second, path in enumerate(paths):
        os.utime(path, (second, second))

    def disk_of_100(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=100 - sum(path.stat().st_size for path in paths if path.exists()))

    monkeypatch.setattr(shutil, "disk_usage", disk_of_100)
    assert cache.free_bytes() == 70
    assert [path.exists() for path in paths] == [False, False, True]


def test_copies_give_way_while_a_file_comes(tmp_path: Path) -> None:
    old = age(put(Cache(tmp_path, 10**9), b"old"))
    seen = []

    def fetch() -> Iterable[bytes]:
        yield b"one"
        seen.append(old.exists())

    Cache(tmp_path, 10**9, floor=10**18).get(sha(b"one"), ".bin", fetch)
    assert seen == [False]


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
