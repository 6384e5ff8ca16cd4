"""The systemd units: systemd itself reads them, and rates their sandbox."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpu import devices
from gpu.devices import Device
from gpu.slots import Slot
from operations import services
from operations.services import Installation

ROOT = Path(__file__).resolve().parents[2]
GPU = Device("GPU-5d1d4d3c-8f4b-4f63-a7b4-4f0c1de4a001", "RTX", "nvidia", 24, 23, (8, 9))
SLOTS = [Slot("fp4", GPU), Slot("bf16", devices.cpu())]
WEB = ["/usr/bin/env", "100%", 'a "b" \\c', "$HOME"]
# Of 10: systemd calls up to 2.5 "OK" and what is without a sandbox 9.6 "UNSAFE".
MOST_EXPOSED = {"daemon": 2.5, "": 6.5}


@pytest.fixture
def systemd_analyze() -> str:
    """Skipped where it is not installed; in CI that fails."""
    found = shutil.which("systemd-analyze")
    if found is None:
        missing = "No systemd-analyze. Install it (Debian, Ubuntu: apt install systemd)."
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    return found


def installed(folder: Path, account: str) -> list[Path]:
    """The units in a folder; a template is asked for as one of its instances."""
    where = Installation(folder, folder / "settings", ROOT, folder / "data", sys.executable, account)
    for path, text in services.files(where, SLOTS, WEB).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [Path(str(path).replace("@.", "@bf16-cpu.")) for path in sorted(folder.glob("fluxsite*"))]


def analyzed(tool: str, account: str, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    options = [] if account else ["--user"]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    return subprocess.run(
        [tool, *options, *words], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize("account", ["daemon", ""])
def test_systemd_understands_every_line(systemd_analyze: str, tmp_path: Path, account: str) -> None:
    units = installed(tmp_path, account)
    assert len(units) == 4
    done = analyzed(systemd_analyze, account, tmp_path, "verify", "--man=no", *map(str, units))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # And would say so if it did not.
    unit = tmp_path / "fluxsite-web.service"
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=mxied"))
    done = analyzed(systemd_analyze, account, tmp_path, "verify", "--man=no", str(unit))
    assert "mxied" in done.stderr


@pytest.mark.parametrize("account", ["daemon", ""])
def test_its_sandbox_is_rated_well(systemd_analyze: str, tmp_path: Path, account: str) -> None:
    limit = f"--threshold={round(10 * MOST_EXPOSED[account])}"
    for unit in (path for path in installed(tmp_path, account) if path.suffix == ".service"):
        done = analyzed(systemd_analyze, "system", tmp_path, "security", "--offline=true", limit, str(unit))
        assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_workers_stop_as_django_q2_needs_it(tmp_path: Path) -> None:
    """Main alone is told, has the time of a job, and comes back also when it ended with 0."""
    installed(tmp_path, "daemon")
    worker = (tmp_path / "fluxsite-worker@.service").read_text()
    for line in ("KillMode=mixed", "Restart=always", "TimeoutStopSec=30min", "StartLimitIntervalSec=0"):
        assert f"\n{line}\n" in worker


def test_each_slot_has_its_environment_and_the_target_wants_it(tmp_path: Path) -> None:
    installed(tmp_path, "")
    name = f"fp4-{GPU.id}"
    slot = (tmp_path / "settings" / "slots" / f"{name}.env").read_text()
    assert slot == f'CUDA_VISIBLE_DEVICES="{GPU.id}"\nFLUXSITE_DEVICE="{GPU.id}"\nQ_CLUSTER_NAME="fp4"\n'
    target = (tmp_path / "fluxsite.target").read_text()
    assert f"Wants=fluxsite-worker@{name}.service\n" in target
    assert "Wants=fluxsite-worker@bf16-cpu.service\n" in target
    assert "WantedBy=default.target" in target
    unit = (tmp_path / "fluxsite-worker@.service").read_text()
    assert f"EnvironmentFile={tmp_path}/settings/slots/%i.env\n" in unit


def test_words_reach_the_command_as_they_are() -> None:
    assert services.command(WEB) == r'"/usr/bin/env" "100%%" "a \"b\" \\c" "$$HOME"'
    assert services.environment_file({"A": 'b"c\\d'}) == 'A="b\\"c\\\\d"\n'


def test_units_of_a_user_ask_for_nothing_that_takes_root(tmp_path: Path) -> None:
    installed(tmp_path, "")
    text = (tmp_path / "fluxsite-web.service").read_text()
    assert not any(word in text for word in ("User=", "ProtectSystem", "Capability", "ReadWritePaths"))
