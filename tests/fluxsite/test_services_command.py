"""``manage.py services``, with a systemctl that writes down what it is asked."""

import io
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from operations.services import Installation

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
    monkeypatch.setenv("FLUXSITE_TOKEN", "fx_of_a_client")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_hub")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
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
    said = services("install", "--user", "--bf16", "cpu")
    assert "from your environment: FLUXSITE_DATABASE_URL, FLUXSITE_DATA_DIR, HF_TOKEN." in said
    assert "loginctl enable-linger" in said
    units, settings = home / ".config/systemd/user", home / ".config/fluxsite"
    assert {path.name for path in units.iterdir()} == {
        "fluxsite.target", "fluxsite-web.service", "fluxsite-worker@.service",
        "fluxsite-housekeeping.service", "fluxsite-cleanup.service", "fluxsite-cleanup.timer",
    }  # fmt: skip
    environment = settings / "environment"
    secret = [environment, settings / "slots" / "bf16-cpu.env"]
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in units.iterdir()} == {0o644}
    changed = environment.read_text() + 'FLUXSITE_LOG_LEVEL="DEBUG"\n'
    environment.write_text(changed)
    assert "goes on as it was until you restart" in services("install", "--user", "--bf16", "cpu")
    assert environment.read_text() == changed, "what the operator wrote was lost"
    services("status", "--user")
    services("logs", "--user")
    own = units / "fluxsite-backup.timer"
    own.touch()
    services("uninstall", "--user")
    assert list(units.iterdir()) == [own]
    assert [path for path in settings.rglob("*") if path.is_file()] == [environment]
    assert log.read_text().splitlines() == [
        *["systemctl --user daemon-reload", "systemctl --user enable --now fluxsite.target"] * 2,
        "systemctl --user status --no-pager --lines 0 fluxsite.target fluxsite-*",
        "journalctl --user --output cat --follow --unit fluxsite-*",
        "systemctl --user disable --now fluxsite.target",
        "systemctl --user stop fluxsite.target fluxsite-web.service fluxsite-housekeeping.service "
        "fluxsite-cleanup.service fluxsite-cleanup.timer fluxsite-worker@bf16-cpu.service",
        "systemctl --user daemon-reload",
    ]  # fmt: skip
    log.unlink()
    assert services("uninstall", "--user") == "Nothing is installed here.\n"
    assert not log.exists()


def test_slots_that_are_no_longer_wanted_stop(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their environment goes last: killed before, the next install stops them."""
    log = fake(home, monkeypatch)
    services("install", "--user", "--bf16", "cpu", "--fp4", "cpu")
    log.unlink()
    said = services("install", "--user", "--bf16", "cpu")
    assert "No longer wanted: fluxsite-worker@fp4-cpu.service. A worker finishes its picture first." in said
    assert log.read_text().splitlines() == [
        "systemctl --user daemon-reload", "systemctl --user stop fluxsite-worker@fp4-cpu.service",
        "systemctl --user daemon-reload", "systemctl --user enable --now fluxsite.target",
    ]  # fmt: skip
    assert "fp4" not in (home / ".config/systemd/user/fluxsite.target").read_text()
    assert [path.name for path in (home / ".config/fluxsite/slots").iterdir()] == ["bf16-cpu.env"]


def test_a_host_may_have_pages_only_or_workers_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, units = fake(home, monkeypatch), home / ".config/systemd/user"
    services("install", "--user", "--no-workers")
    common = {"fluxsite.target", "fluxsite-cleanup.service", "fluxsite-cleanup.timer"}
    pages = {"fluxsite-web.service", "fluxsite-housekeeping.service"}
    assert {path.name for path in units.iterdir()} == common | pages
    log.unlink()
    services("install", "--user", "--no-web", "--bf16", "cpu")
    assert {path.name for path in units.iterdir()} == common | {"fluxsite-worker@.service"}
    stopped = log.read_text().splitlines()[1]
    assert stopped == "systemctl --user stop fluxsite-web.service fluxsite-housekeeping.service"
    with pytest.raises(CommandError, match="leave nothing to install"):
        services("install", "--user", "--no-web", "--no-workers")


def test_other_data_than_the_settings_name_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox would keep every service from writing."""
    fake(home, monkeypatch)
    environment = home / ".config/fluxsite/environment"
    environment.parent.mkdir(parents=True)
    environment.write_text('FLUXSITE_DATA_DIR="/srv/studio"\n')
    with pytest.raises(CommandError, match="says FLUXSITE_DATA_DIR=/srv/studio, and your environment"):
        services("install", "--user", "--bf16", "cpu")
    assert not (home / ".config/systemd").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may install for the whole system.")
@pytest.mark.parametrize("python", ["/bin/true", "/bin/false"])
def test_root_leaves_the_data_to_the_account(
    home: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, python: str
) -> None:
    """Loading the settings made folders and a key, of root's; and the account must be able to run it all."""
    fake(home, monkeypatch)
    with tempfile.TemporaryDirectory() as folder:
        settings.DATA_DIR = Path(folder)
        key = settings.DATA_DIR / "var" / "secret_key"
        for path in (settings.DATA_DIR / "media", key.parent):
            path.mkdir()
        key.touch(0o600)
        os.chown(folder, pwd.getpwnam("daemon").pw_uid, -1)
        etc = home / "etc"
        monkeypatch.setattr(
            Installation, "of_system",
            lambda program, data, _, account: Installation(etc, etc, program, data, python, account),
        )  # fmt: skip
        if python == "/bin/false":
            with pytest.raises(CommandError, match="daemon cannot run fluxsite: it ended with 1"):
                services("install", "--bf16", "cpu")
            assert not etc.exists()
        else:
            said = services("install", "--bf16", "cpu")
            assert f"Gave daemon what root had made in {folder}: 3" in said
            assert (etc / "fluxsite-cleanup.timer").exists()
        assert {path.owner() for path in settings.DATA_DIR.rglob("*")} == {"daemon"}


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


def test_an_account_that_is_not_there_is_told(home: Path) -> None:
    with pytest.raises(CommandError, match="There is no account ana-lena: useradd --create-home ana-lena"):
        services("install", "--dry-run", "--account", "ana-lena", "--bf16", "cpu")


def test_prepare_makes_the_first_rows(db: None, settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    settings.FLUXSITE_URL = "https://studio.example"
    said = io.StringIO()
    call_command("prepare", stdout=said)
    assert "https://studio.example/setup/" in said.getvalue()
    silent = io.StringIO()
    call_command("prepare", stdout=silent, verbosity=0)
    assert silent.getvalue() == ""
    settings.FLUXSITE_ADMIN_USER, settings.FLUXSITE_ADMIN_PASSWORD = "ana", "correct horse battery"
    said = io.StringIO()
    call_command("prepare", stdout=said)
    assert said.getvalue() == "Made the first administrator, ana.\n"
    assert any(tmp_path.iterdir())
