"""The studio as systemd units: pages, workers, housekeeping, the daily cleanup, and a target that holds them.

What they say of stopping was measured on django-q2: a SIGTERM to the whole group ends a picture in the middle
and leaves the main process hanging, and one whose sentinel was killed exits with 0. So main alone is told to
stop (``KillMode=mixed``), has the time that a job takes, and comes back however it ended.
"""

import pwd
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu.slots import Slot

TARGET = "fluxsite.target"
WEB = "fluxsite-web.service"
HOUSEKEEPING = "fluxsite-housekeeping.service"
WORKER = "fluxsite-worker@.service"
CLEANUP = "fluxsite-cleanup.service"
TIMER = "fluxsite-cleanup.timer"
# All that an installation may have. Others are the operator's own, whatever they are called.
UNITS = (TARGET, WEB, HOUSEKEEPING, WORKER, CLEANUP, TIMER)
# Longer than any job: after it systemd kills, and the job starts again elsewhere.
LONGEST_JOB = "30min"
# What works without privileges, so in the units of a user, too. Not MemoryDenyWriteExecute: torch compiles.
SANDBOX = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
"""
# What only the system's own units may ask for. Devices stay open: drivers name theirs as they like.
SYSTEM_SANDBOX = """\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
"""


@dataclass(frozen=True)
class Installation:
    """Where and for whom. ``units``, ``settings``: folders. Without an ``account``: a user's own."""

    units: Path
    settings: Path
    program: Path
    data: Path
    python: str
    account: str = ""

    @classmethod
    def of_user(cls, program: Path, data: Path, python: str) -> "Installation":
        home = Path.home() / ".config"
        return cls(home / "systemd" / "user", home / "fluxsite", program, data, python)

    @classmethod
    def of_system(cls, program: Path, data: Path, python: str, account: str) -> "Installation":
        return cls(Path("/etc/systemd/system"), Path("/etc/fluxsite"), program, data, python, account)

    @property
    def environment(self) -> Path:
        """The operator's settings."""
        return self.settings / "environment"

    @property
    def slots(self) -> Path:
        return self.settings / "slots"

    @property
    def written(self) -> list[Path]:
        """Below these the services write, and below the account's ``cache``."""
        return [self.data / "var", self.data / "media"]

    @property
    def cache(self) -> Path:
        """Where the hub's library keeps a model."""
        return Path(pwd.getpwnam(self.account).pw_dir) / ".cache"

    def manage(self, *words: str) -> str:
        return command([self.python, str(self.program / "manage.py"), *words])


def command(words: Iterable[str]) -> str:
    """As systemd reads a command line: in quotes, and without its own specifiers."""
    return " ".join('"' + _escaped(word).replace("%", "%%").replace("$", "$$") + '"' for word in words)


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')


def slot_name(slot: Slot) -> str:
    """The instance of the worker's unit: ``fp4-GPU-5d1d…``, ``bf16-cpu``."""
    return f"{slot.engine}-{slot.device.id}"


def environment_file(variables: Mapping[str, str]) -> str:
    return "".join(f'{name}="{_escaped(value)}"\n' for name, value in sorted(variables.items()))


def data_directory(environment: str) -> str:
    """What such a file says of it, also one that an operator has changed; empty if nothing."""
    found = re.search(r"""^FLUXSITE_DATA_DIR=(["']?)(.*?)\1\s*$""", environment, re.MULTILINE)
    if found is None:
        return ""
    return re.sub(r"\\(.)", r"\1", found[2]) if found[1] == '"' else found[2]


def worker_unit(name: str) -> str:
    """The unit of a worker, by the name of its slot."""
    return WORKER.replace("@.", f"@{name}.")


def units(where: Installation, slots: Sequence[Slot], web: Sequence[str]) -> dict[str, str]:
    """The text of each unit by its name.

    ``web``: the command that serves the pages. Without it they are on another host, as is housekeeping.
    """
    workers = [worker_unit(slot_name(slot)) for slot in slots]
    found = {
        TARGET: _target(where, [*([WEB, HOUSEKEEPING] if web else []), *workers, TIMER]),
        CLEANUP: _cleanup(where, bool(web)),
        TIMER: _timer(),
    }
    if web:
        found |= _of_web_host(where, web)
    if slots:
        slot_file = f"EnvironmentFile={_path(where.slots)}/%i.env\n"
        # Workers read a schema that the pages' unit has brought up to date.
        after = WEB if web else ""
        found[WORKER] = _lasting(where, "worker %i", where.manage("qcluster"), after, more=slot_file)
    return found


def files(where: Installation, slots: Sequence[Slot], web: Sequence[str]) -> dict[Path, str]:
    """What belongs to the installation but the settings, which are the operator's from then on."""
    found = {where.units / name: text for name, text in units(where, slots, web).items()}
    for slot in slots:
        found[where.slots / f"{slot_name(slot)}.env"] = environment_file(slot.environment)
    return found


def installed(where: Installation) -> list[Path]:
    """Those files that an installation left here."""
    there = [where.units / name for name in UNITS if (where.units / name).exists()]
    return [*there, *sorted(where.slots.glob("*.env"))]


def unit_of(path: Path) -> str:
    """The unit that runs because of such a file; none does for a template."""
    if path.suffix == ".env":
        return worker_unit(path.stem)
    return "" if path.name == WORKER else path.name


def _of_web_host(where: Installation, web: Sequence[str]) -> dict[str, str]:
    prepare = f"ExecStartPre={where.manage('prepare')}\nTimeoutStartSec=10min\n"
    own = 'Environment="Q_CLUSTER_NAME=fluxsite" "CUDA_VISIBLE_DEVICES="\n'
    return {
        WEB: _lasting(where, "pages", command(web), stop="45s", more=prepare),
        HOUSEKEEPING: _lasting(where, "housekeeping", where.manage("qcluster"), WEB, more=own),
    }


def _target(where: Installation, wanted: Iterable[str]) -> str:
    return (
        "[Unit]\nDescription=fluxsite, a studio for FLUX.1\n"
        + "".join(f"Wants={name}\n" for name in wanted)
        + f"\n[Install]\nWantedBy={'multi-user' if where.account else 'default'}.target\n"
    )


def _timer() -> str:
    return (
        f"[Unit]\nDescription=fluxsite: daily cleanup of this host\nPartOf={TARGET}\n"
        # Not all hosts at the same moment, and afterwards if the machine was off.
        "\n[Timer]\nOnCalendar=daily\nRandomizedDelaySec=1h\nPersistent=yes\n"
    )


def _cleanup(where: Installation, web: bool) -> str:
    # Where there is no housekeeping nobody else compresses older logs.
    rotate = "" if web else f"ExecStartPre={where.manage('logs', 'rotate')}\n"
    how = f"Type=oneshot\n{rotate}Nice=19\nIOSchedulingClass=idle\n"
    return _service(where, "cleanup", where.manage("cleanup"), WEB if web else "", how)


def _lasting(
    where: Installation, what: str, run: str, after: str = "", *, stop: str = LONGEST_JOB, more: str
) -> str:
    how = f"Type=exec\n{more}Restart=always\nRestartSec=1s\nKillMode=mixed\nTimeoutStopSec={stop}\n"
    return _service(where, what, run, after, how)


def _service(where: Installation, what: str, run: str, after: str, how: str) -> str:
    return (
        f"[Unit]\nDescription=fluxsite: {what}\nPartOf={TARGET}\n"
        f"After={' '.join(['network-online.target', 'postgresql.service', after]).strip()}\n"
        "Wants=network-online.target\nStartLimitIntervalSec=0\n"
        # What a slot says of itself comes after the settings, and so holds.
        f"\n[Service]\nWorkingDirectory={_path(where.program)}\nEnvironmentFile=-{_path(where.environment)}\n"
        f"{how}ExecStart={run}\n{_sandbox(where)}"
    )


def _sandbox(where: Installation) -> str:
    if not where.account:
        return SANDBOX
    paths = "".join(f"ReadWritePaths={_listed(path)}\n" for path in where.written)
    paths += f"ReadWritePaths={_listed(where.cache, optional=True)}\n"
    return f"User={where.account}\n{SANDBOX}{SYSTEM_SANDBOX}{paths}"


def _path(path: Path) -> str:
    """A path as the whole value of a setting: quotes and spaces stand for themselves."""
    return str(path).replace("%", "%%")


def _listed(path: Path, *, optional: bool = False) -> str:
    """A path in a list of paths, which spaces divide. What is ``optional`` need not be there."""
    return f'"{"-" if optional else ""}{_escaped(_path(path))}"'
