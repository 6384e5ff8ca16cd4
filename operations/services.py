"""The studio as systemd units: pages, one worker for each slot, housekeeping, and a target that holds them.

What they say of stopping was measured on django-q2: a SIGTERM to the whole group ends a picture in the middle
and leaves the main process hanging, and one whose sentinel was killed exits with 0. So main alone is told to
stop (``KillMode=mixed``), has the time that a job takes, and comes back however it ended.
"""

import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu.slots import Slot

TARGET = "fluxsite.target"
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
UMask=0027
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


def units(where: Installation, slots: Sequence[Slot], web: Sequence[str]) -> dict[str, str]:
    """The text of each unit by its name. ``web``: the command that serves the pages."""
    workers = [f"fluxsite-worker@{slot_name(slot)}.service" for slot in slots]
    others = ["fluxsite-web.service", "fluxsite-housekeeping.service"]
    slot_file = f"EnvironmentFile={where.settings}/slots/%i.env"
    return {
        TARGET: _target(where, [*others, *workers]),
        "fluxsite-web.service": _service(
            where, "pages", command(web), stop="45s",
            more=f"ExecStartPre={where.manage('prepare')}\nTimeoutStartSec=10min",
        ),
        "fluxsite-worker@.service": _service(where, "worker %i", where.manage("qcluster"), more=slot_file),
        "fluxsite-housekeeping.service": _service(
            where, "housekeeping", where.manage("qcluster"),
            more='Environment="Q_CLUSTER_NAME=fluxsite" "CUDA_VISIBLE_DEVICES="',
        ),
    }  # fmt: skip


def files(where: Installation, slots: Sequence[Slot], web: Sequence[str]) -> dict[Path, str]:
    """What belongs to the installation but the settings, which are the operator's from then on."""
    found = {where.units / name: text for name, text in units(where, slots, web).items()}
    for slot in slots:
        found[where.settings / "slots" / f"{slot_name(slot)}.env"] = environment_file(slot.environment)
    return found


def _target(where: Installation, wanted: Iterable[str]) -> str:
    return (
        "[Unit]\nDescription=fluxsite, a studio for FLUX.1\n"
        + "".join(f"Wants={name}\n" for name in wanted)
        + f"\n[Install]\nWantedBy={'multi-user' if where.account else 'default'}.target\n"
    )


def _service(where: Installation, what: str, run: str, stop: str = LONGEST_JOB, more: str = "") -> str:
    # Workers read a schema that the pages' unit has brought up to date.
    after = "" if what == "pages" else " fluxsite-web.service"
    return (
        f"[Unit]\nDescription=fluxsite: {what}\nPartOf={TARGET}\n"
        f"After=network-online.target postgresql.service{after}\nWants=network-online.target\n"
        "StartLimitIntervalSec=0\n"
        f"\n[Service]\nType=exec\nWorkingDirectory={_path(where.program)}\n"
        f"EnvironmentFile=-{where.settings}/environment\n{more}\nExecStart={run}\n"
        f"Restart=always\nRestartSec=1s\nKillMode=mixed\nTimeoutStopSec={stop}\n" + _sandbox(where)
    ).replace("\n\n\n", "\n\n")


def _sandbox(where: Installation) -> str:
    if not where.account:
        return SANDBOX
    # A model from the hub is kept where its library keeps it.
    writable = [where.data / "var", where.data / "media"]
    paths = "".join(f"ReadWritePaths={_path(path)}\n" for path in writable)
    cache = Path(pwd.getpwnam(where.account).pw_dir) / ".cache"
    paths += f"ReadWritePaths=-{_path(cache)}\n"
    return f"User={where.account}\n{SANDBOX}{SYSTEM_SANDBOX}{paths}"


def _path(path: Path) -> str:
    return str(path).replace("%", "%%")
