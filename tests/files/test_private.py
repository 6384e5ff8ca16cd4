"""What the studio writes is its own account's to read, however it is started."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from files import private

ROOT = Path(__file__).resolve().parents[2]


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def start(data: Path, *words: str, **environment: str) -> None:
    """A process of the product, started by somebody whose files everybody may read."""
    subprocess.run(
        ["sh", "-c", 'umask 022; exec "$@"', "sh", sys.executable, *words],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "FLUXSITE_DATA_DIR": str(data), **environment},
    )


@pytest.mark.parametrize(
    "words",
    [
        ["manage.py", "migrate", "--verbosity", "0"],
        ["-c", "import fluxsite.wsgi, logging; logging.error('x')"],
    ],
)
def test_each_way_to_start_writes_files_that_nobody_else_reads(tmp_path: Path, words: list[str]) -> None:
    start(tmp_path / "data", *words)
    found = modes(tmp_path / "data")
    assert {"var/secret_key", "var/log"} <= found.keys()
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


def test_what_an_earlier_release_left_open_is_tightened(tmp_path: Path) -> None:
    log, media = tmp_path / "var" / "log", tmp_path / "media"
    for folder in (log, media):
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    for name in ("fluxsite.sqlite3", "fluxsite.sqlite3-wal", "log/fluxsite.log"):
        (tmp_path / "var" / name).write_text("private")
        (tmp_path / "var" / name).chmod(0o644)
    assert len(private.open_to_others([tmp_path / "var", log], media, group_reads_media=False)) == 5
    umask = os.umask(0o022)
    try:
        private.begin([tmp_path / "var", log], media, group_reads_media=False)
    finally:
        os.umask(umask)
    assert private.open_to_others([tmp_path / "var", log], media, group_reads_media=False) == []
    assert {mode & 0o077 for mode in modes(tmp_path).values()} == {0}


def test_the_group_reads_pictures_only_where_nginx_sends_them(tmp_path: Path) -> None:
    code = (
        "import django; django.setup();"
        "from files import storage; from django.core.files.base import ContentFile;"
        "from files.signals import before_save; before_save.receivers = [];"
        "storage.save('images/2026/a.png', ContentFile(b'a'))"
    )
    for accel, file, folder in (("", 0o600, 0o700), ("/media", 0o640, 0o750)):
        data = tmp_path / f"data{len(accel)}"
        start(data, "-c", code, FLUXSITE_ACCEL=accel, DJANGO_SETTINGS_MODULE="fluxsite.settings")
        found = modes(data)
        assert found["media/images/2026/a.png"] == file
        assert {found[name] for name in ("media", "media/images", "media/images/2026")} == {folder}
        assert found["var"] == 0o700


@pytest.mark.parametrize("words", [["manage.py", "prepare"], ["-c", "import fluxsite.wsgi"]])
def test_a_data_directory_that_cannot_be_is_a_sentence(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").write_text("not a directory")
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "FLUXSITE_DATA_DIR": str(tmp_path / "file" / "data")},
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"fluxsite cannot write to {tmp_path}/file/data/var")
    assert "FLUXSITE_DATA_DIR" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("key", ["", "the-key-of-a-studio-whose-disk-has-filled-up-since-then-0123456789"])
def test_a_disk_that_is_full_is_a_sentence(tmp_path: Path, key: str) -> None:
    """``ulimit -f 0`` refuses each byte as a full disk does, with another reason."""
    ended = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 0; exec "$0" manage.py prepare', sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "FLUXSITE_DATA_DIR": str(tmp_path), "FLUXSITE_SECRET_KEY": key},
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert str(tmp_path) in ended.stderr
    assert "space" in ended.stderr or "room" in ended.stderr


def test_a_read_only_directory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "media")
    with pytest.raises(private.CannotWrite, match="media: It is read-only"):
        private.begin([tmp_path / "var"], tmp_path / "media", group_reads_media=False)
