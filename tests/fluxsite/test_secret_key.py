"""The secret key: made once, long, and nobody else's to read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fluxsite import secret_key


def test_it_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "var" / "secret_key"
    key = secret_key.read_or_create(path)
    assert len(key) == 86
    assert secret_key.read_or_create(path) == key
    assert path.stat().st_mode & 0o777 == 0o600


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: secret_key.read_or_create(path), range(8)))
    assert len(set(keys)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["secret_key"]
