"""The systemd units: systemd itself reads them, and rates their sandbox."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
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


def installation(folder: Path, account: str) -> Installation:
    return Installation(folder, folder / "settings", ROOT, folder / "data", sys.executable, account)


def installed(
    folder: Path, account: str, slots: Sequence[Slot] = SLOTS, web: Sequence[str] = WEB
) -> list[Path]:
    """The units in a folder; a template is asked for as one of its instances."""
    for path, text in services.files(installation(folder, account), slots, web).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [Path(str(path).replace("@.", "@bf16-cpu.")) for path in sorted(folder.glob("fluxsite*"))]


def read(folder: Path, name: str) -> dict[str, list[str]]:
    """What a unit says, each name with all it was given."""
    said: dict[str, list[str]] = {}
    for line in (folder / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals:
            said.setdefault(key, []).append(value)
    return said


def analyzed(tool: str, account: str, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    options = [] if account else ["--user"]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    return subprocess.run(
        [tool, *options, *words], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize("account", ["daemon", ""])
@pytest.mark.parametrize(("slots", "web", "count"), [(SLOTS, WEB, 6), (SLOTS, [], 4), ([], WEB, 5)])
def test_systemd_understands_every_line(
    systemd_analyze: str, tmp_path: Path, account: str, slots: list[Slot], web: list[str], count: int
) -> None:
    units = installed(tmp_path, account, slots, web)
    assert len(units) == count
    done = analyzed(systemd_analyze, account, tmp_path, "verify", "--man=no", *map(str, units))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # And would say so if it did not.
    for name, right, wrong in (
        ("fluxsite-cleanup.service", "IOSchedulingClass=idle", "IOSchedulingClass=idel"),
        ("fluxsite-cleanup.timer", "OnCalendar=daily", "OnCalendar=dialy"),
    ):
        unit = tmp_path / name
        unit.write_text(unit.read_text().replace(right, wrong))
        done = analyzed(systemd_analyze, account, tmp_path, "verify", "--man=no", str(unit))
        assert wrong.partition("=")[2] in done.stderr


@pytest.mark.parametrize("account", ["daemon", ""])
def test_its_sandbox_is_rated_well(systemd_analyze: str, tmp_path: Path, account: str) -> None:
    limit = f"--threshold={round(10 * MOST_EXPOSED[account])}"
    rated = [path for path in installed(tmp_path, account) if path.suffix == ".service"]
    assert "fluxsite-cleanup.service" in {path.name for path in rated}
    for unit in rated:
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


@pytest.mark.parametrize("account", ["daemon", ""])
def test_the_timer_cleans_daily_in_the_same_sandbox_and_gives_way(tmp_path: Path, account: str) -> None:
    installed(tmp_path, account)
    timer, cleanup = read(tmp_path, "fluxsite-cleanup.timer"), read(tmp_path, "fluxsite-cleanup.service")
    assert (timer["OnCalendar"], timer["Persistent"], timer["PartOf"]) == (
        ["daily"], ["yes"], ["fluxsite.target"],
    )  # fmt: skip
    assert "fluxsite-cleanup.timer" in read(tmp_path, "fluxsite.target")["Wants"]
    assert (cleanup["Type"], cleanup["Nice"], cleanup["IOSchedulingClass"]) == (["oneshot"], ["19"], ["idle"])
    assert cleanup["ExecStart"][0].endswith('manage.py" "cleanup"')
    assert "Restart" not in cleanup
    housekeeping = read(tmp_path, "fluxsite-housekeeping.service")
    own = {"Description", "Type", "ExecStart", "Environment", "Nice", "IOSchedulingClass"}
    lasting = {"Restart", "RestartSec", "KillMode", "TimeoutStopSec"}
    assert without(cleanup, own) == without(housekeeping, own | lasting)


def without(said: dict[str, list[str]], names: set[str]) -> dict[str, list[str]]:
    return {name: values for name, values in said.items() if name not in names}


def test_a_host_without_pages_waits_for_none_and_begins_its_logs_itself(tmp_path: Path) -> None:
    installed(tmp_path, "daemon", web=[])
    assert not {"fluxsite-web.service", "fluxsite-housekeeping.service"} & {
        p.name for p in tmp_path.iterdir()
    }
    assert "fluxsite-web.service" not in "".join(p.read_text() for p in tmp_path.glob("fluxsite*"))
    (rotate,) = read(tmp_path, "fluxsite-cleanup.service")["ExecStartPre"]
    assert rotate.endswith('"logs" "rotate"')
    with_pages = tmp_path / "web"
    installed(with_pages, "daemon")
    assert "ExecStartPre" not in read(with_pages, "fluxsite-cleanup.service")
    for name in ("fluxsite-worker@.service", "fluxsite-cleanup.service", "fluxsite-housekeeping.service"):
        assert read(with_pages, name)["After"][0].split()[-1] == "fluxsite-web.service"


def test_a_slot_says_more_than_the_settings(tmp_path: Path) -> None:
    installed(tmp_path, "")
    assert read(tmp_path, "fluxsite-worker@.service")["EnvironmentFile"] == [
        f"-{tmp_path}/settings/environment", f"{tmp_path}/settings/slots/%i.env",
    ]  # fmt: skip


def test_what_is_installed_is_known_by_its_names(tmp_path: Path) -> None:
    installed(tmp_path, "")
    (tmp_path / "fluxsite-backup.timer").touch()  # an operator's own
    (tmp_path / "settings" / "environment").touch()
    where = installation(tmp_path, "")
    there = services.installed(where)
    assert set(there) == set(services.files(where, SLOTS, WEB))
    assert {services.unit_of(path) for path in there} == {
        *services.UNITS, "fluxsite-worker@bf16-cpu.service", f"fluxsite-worker@fp4-{GPU.id}.service", "",
    } - {"fluxsite-worker@.service"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        ('FLUXSITE_DATA_DIR="/srv/a b"\nFLUXSITE_URL=x\n', "/srv/a b"),
        ("FLUXSITE_DATA_DIR=/srv/a \n", "/srv/a"),
        ("# FLUXSITE_DATA_DIR=/srv/a\nA=it's", ""),
    ],
)  # fmt: skip
def test_the_data_directory_is_found_in_the_settings(text: str, directory: str) -> None:
    assert services.data_directory(text) == directory
