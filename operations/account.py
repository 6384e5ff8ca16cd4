"""The account that services run as: what root leaves to it, and whether it can do what it must.

All of this is root's to call, in folders that the account may change meanwhile.
"""

import os
import pwd
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path


def hand_over(folder: Path, account: str) -> int:
    """Give the account what root owns there, such as a log that a command of root's began; returns how much.

    No link is followed, and a file of several names stays: another name may be in a folder of the system.
    """
    entry, given = pwd.getpwnam(account), 0
    for _, _, files, opened in os.fwalk(folder):
        for name in (".", *files):
            facts = os.stat(name, dir_fd=opened, follow_symlinks=False)
            alone = stat.S_ISDIR(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1)
            if facts.st_uid == 0 and alone:
                os.chown(name, entry.pw_uid, entry.pw_gid, dir_fd=opened, follow_symlinks=False)
                given += 1
    return given


def run_as(account: str, words: Sequence[str]) -> tuple[str, str]:
    """Run a command as the account; returns what it printed, and why it failed, if it did."""
    entry = pwd.getpwnam(account)
    groups = os.getgrouplist(account, entry.pw_gid)
    try:
        done = subprocess.run(
            words, user=entry.pw_uid, group=entry.pw_gid, extra_groups=groups, cwd="/",
            env={**os.environ, "HOME": entry.pw_dir}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        return "", str(error)
    reason = done.stderr.strip() or f"it ended with {done.returncode}"
    return done.stdout, reason if done.returncode else ""


def unwritable(folders: Sequence[Path], account: str) -> str:
    """The first thing in the folders that the account may not change, or why it cannot look; else empty."""
    tests = ["-ignore_readdir_race", "!", "-type", "l", "!", "-writable", "-print", "-quit"]
    found, reason = run_as(account, ["find", "-H", *map(str, folders), *tests])
    return found.strip() or reason
