"""``manage.py services``, with a systemctl that writes down what it is asked."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

FAKE = """#!/bin/sh
echo "$(basename $0) $@" >> {log}
exit {status}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("FLUXSITE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLUXSITE_DATABASE_URL", "postgres://ana:se cret@host/name")
    monkeypatch.setenv("FLUXSITE_DEVICE", "cpu")
    return tmp_path


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> Path:
    """systemctl and journalctl come first on the PATH; returns their log."""
    log = folder / "asked"
    for name in ("systemctl", "journalctl"):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(FAKE.format(log=log, status=status))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return log


def services(*arguments: str) -> str:
    said = io.StringIO()
    call_command("services", *arguments, stdout=said)
    return said.getvalue()


def test_a_dry_run_prints_everything_and_writes_nothing(home: Path) -> None:
    said = services("install", "--user", "--dry-run", "--bf16", "cpu", "--bind", "0.0.0.0:9000")
    for text in (
        f"# {home}/.config/systemd/user/fluxsite-web.service", '"--bind" "0.0.0.0:9000"', '"prepare"',
        "Wants=fluxsite-worker@bf16-cpu.service", "$ systemctl --user enable --now fluxsite.target",
        'FLUXSITE_DATABASE_URL="postgres://ana:se cret@host/name"',
    ):  # fmt: skip
        assert text in said
    assert "fp4-cpu" not in said
    assert 'FLUXSITE_DEVICE="cpu"\nFLUXSITE' not in said
    assert not (home / ".config").exists()


def test_it_is_installed_and_removed_and_settings_stay(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fake(home, monkeypatch)
    services("install", "--user", "--bf16", "cpu")
    units, settings = home / ".config/systemd/user", home / ".config/fluxsite"
    assert {path.name for path in units.iterdir()} == {
        "fluxsite.target", "fluxsite-web.service", "fluxsite-worker@.service",
        "fluxsite-housekeeping.service",
    }  # fmt: skip
    environment = settings / "environment"
    assert environment.stat().st_mode & 0o777 == 0o600
    environment.write_text('FLUXSITE_LOG_LEVEL="DEBUG"\n')
    services("install", "--user", "--bf16", "cpu")
    assert environment.read_text() == 'FLUXSITE_LOG_LEVEL="DEBUG"\n', "what the operator wrote was lost"
    services("status", "--user")
    services("logs", "--user")
    services("uninstall", "--user")
    assert list(units.iterdir()) == []
    assert environment.exists()
    assert log.read_text().splitlines() == [
        *["systemctl --user daemon-reload", "systemctl --user enable --now fluxsite.target"] * 2,
        "systemctl --user status --no-pager --lines 0 fluxsite.target fluxsite-*",
        "journalctl --user --output cat --follow --unit fluxsite-*",
        "systemctl --user disable --now fluxsite.target", "systemctl --user daemon-reload",
    ]  # fmt: skip


def test_what_systemd_refuses_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(home, monkeypatch, status=4)
    with pytest.raises(CommandError, match="systemctl ended with 4"):
        services("install", "--user", "--bf16", "cpu")


def test_without_systemd_it_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(CommandError, match="does not run systemd"):
        services("status", "--user")


def test_it_is_not_run_as_root(home: Path, settings: Any) -> None:
    settings.DATA_DIR = Path("/")
    with pytest.raises(CommandError, match="name it with --account"):
        services("install", "--dry-run")
    assert "User=daemon" in services("install", "--dry-run", "--account", "daemon", "--bf16", "cpu")


def test_prepare_makes_the_first_rows(db: None, settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    settings.FLUXSITE_URL = "https://studio.example"
    said = io.StringIO()
    call_command("prepare", stdout=said)
    assert "https://studio.example/setup/" in said.getvalue()
    settings.FLUXSITE_ADMIN_USER, settings.FLUXSITE_ADMIN_PASSWORD = "ana", "correct horse battery"
    said = io.StringIO()
    call_command("prepare", stdout=said)
    assert said.getvalue() == "Made the first administrator, ana.\n"
    assert any(tmp_path.iterdir())
