"""What root leaves to the account of the services, and what the account can do."""

import os
import pwd
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations import account

DAEMON = pwd.getpwnam("daemon")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Only root can give files away.")


@pytest.fixture
def data() -> Iterator[Path]:
    """A directory of daemon's, where it can get to: pytest's own are closed to it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        data = Path(folder) / "data"
        data.mkdir()
        give(data)
        yield data


def give(path: Path) -> Path:
    os.chown(path, DAEMON.pw_uid, DAEMON.pw_gid)
    return path


def file_in(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    return folder / name


def test_what_root_made_is_handed_over(data: Path) -> None:
    log = file_in(data / "var" / "log", "fluxsite.log")
    assert account.unwritable([data], "daemon") == str(data / "var")
    assert account.hand_over(data, "daemon") == 3
    assert {path.owner() for path in (log, log.parent, log.parent.parent)} == {"daemon"}
    assert account.unwritable([data], "daemon") == ""
    assert account.hand_over(data, "daemon") == 0


def test_no_link_leads_out_of_the_directory(data: Path) -> None:
    """The account may have put it there, to be given a file of the system."""
    outside = file_in(data.parent / "etc", "shadow")
    (data / "folder").symlink_to(outside.parent)
    (data / "file").symlink_to(outside)
    os.link(outside, data / "another name")
    assert account.hand_over(data, "daemon") == 0
    assert outside.owner() == outside.parent.owner() == "root"


def test_what_others_own_is_not_taken_but_told(data: Path) -> None:
    theirs = file_in(data, "fluxsite.sqlite3")
    os.chown(theirs, pwd.getpwnam("nobody").pw_uid, -1)
    assert account.hand_over(data, "daemon") == 0
    assert account.unwritable([data], "daemon") == str(theirs)


def test_a_directory_that_it_cannot_enter_is_told(data: Path) -> None:
    data.parent.chmod(0o700)
    assert "Permission denied" in account.unwritable([data / "var"], "daemon")


def test_a_command_runs_as_the_account_alone(data: Path) -> None:
    said, reason = account.run_as("daemon", ["sh", "-c", "id -u; id -G; echo $HOME"])
    assert (said.splitlines(), reason) == (
        [str(DAEMON.pw_uid), " ".join(map(str, os.getgrouplist("daemon", DAEMON.pw_gid))), DAEMON.pw_dir], "",
    )  # fmt: skip
    assert account.run_as("daemon", ["sh", "-c", "echo no >&2; exit 3"]) == ("", "no")
    assert account.run_as("daemon", ["false"]) == ("", "it ended with 1")
    python = data.parent / "python"
    python.write_bytes(Path(sys.executable).read_bytes())
    python.chmod(0o700)
    assert "Permission denied" in account.run_as("daemon", [str(python), "-V"])[1]
