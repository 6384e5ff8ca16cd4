"""The log on the disk: written by many processes, begun anew beneath them, read across its files."""

import gzip
import io
import json
import logging
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.core.management import call_command

from operations import chores, log_files

WRITER = """
import logging, sys
from pathlib import Path
from operations.log_files import LogFile
handler = LogFile(Path(sys.argv[1]), int(sys.argv[4]))
log = logging.getLogger(); log.addHandler(handler); log.setLevel("INFO")
for number in range(int(sys.argv[3])):
    log.info('{"event": "%s", "number": %d, "long": "%s"}', sys.argv[2], number, "x" * (number % 50) * 500)
"""


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.LOG_DIR = tmp_path
    return tmp_path


def write(folder: Path, *lines: dict[str, Any]) -> None:
    with log_files.current(folder).open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def settle(folder: Path) -> None:
    """As if nobody had written the older files for a while."""
    for path in log_files.older(folder):
        os.utime(path, (time.time() - 100,) * 2)


def test_no_line_is_lost_or_torn_while_the_file_is_begun_anew(folder: Path) -> None:
    writers = begin_writers(folder, most=10**9)
    begun = 0
    while any(writer.poll() is None for writer in writers):
        begun += log_files.rotate(folder, larger_than=2_000_000)
        time.sleep(0.01)
    assert begun > 3
    assert_all_is_there(folder)


def test_who_writes_begins_a_new_file_where_nobody_else_does(folder: Path) -> None:
    for writer in begin_writers(folder, most=2_000_000):
        assert writer.wait() == 0
    assert len(log_files.older(folder)) > 3
    assert all(path.stat().st_size > 2_000_000 for path in log_files.older(folder))
    assert_all_is_there(folder)


def begin_writers(folder: Path, most: int) -> list["subprocess.Popen[bytes]"]:
    return [
        subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name, "2000", str(most)])
        for name in ("a", "b", "c")
    ]


def assert_all_is_there(folder: Path) -> None:
    found = {"a": 0, "b": 0, "c": 0}
    for line in log_files.lines(folder):
        assert line["number"] == found[line["event"]]
        found[line["event"]] += 1
    assert found == {"a": 2000, "b": 2000, "c": 2000}


def test_older_files_are_compressed_once_nobody_writes_them(folder: Path) -> None:
    write(folder, {"event": "old"})
    assert log_files.rotate(folder, larger_than=10) == 1
    assert [path.suffix for path in log_files.older(folder)] == [".log"]
    settle(folder)
    written = log_files.older(folder)[0].stat().st_mtime
    assert log_files.rotate(folder, larger_than=10) == 0
    (path,) = log_files.older(folder)
    assert path.suffix == ".gz"
    assert path.stat().st_mtime == written
    assert gzip.decompress(path.read_bytes()) == b'{"event": "old"}\n'
    write(folder, {"event": "new"})
    assert [line["event"] for line in log_files.lines(folder)] == ["old", "new"]


def test_a_small_file_is_left(folder: Path) -> None:
    assert log_files.rotate(folder, larger_than=10) == 0
    write(folder, {"event": "x"})
    assert log_files.rotate(folder, larger_than=100) == 0


def test_the_schedule_begins_a_new_file_at_the_size_that_is_set(folder: Path, settings: Any) -> None:
    settings.FLUXSITE_LOG_MB = 1
    write(folder, {"event": "x" * 999_000})
    assert chores.rotate_logs() == 0
    write(folder, {"event": "x" * 1000})
    assert chores.rotate_logs() == 1
    write(folder, {"event": "x" * 1_000_000})
    call_command("logs", "rotate")  # where no housekeeping runs
    assert len(log_files.older(folder)) == 2


def test_following_goes_on_in_the_new_file(folder: Path) -> None:
    write(folder, {"event": "before"})
    following = log_files.follow(folder)
    seen: list[str] = []

    def read() -> None:
        seen.extend(line["event"] for line in islice(following, 3))
        following.close()  # type: ignore[attr-defined]

    reader = Thread(target=read, daemon=True)
    reader.start()
    end = time.monotonic() + 30
    while reader.is_alive() and time.monotonic() < end:
        # When the reader begins is unknown here: it sees some of these.
        write(folder, {"event": "first"})
        log_files.rotate(folder, larger_than=0)
        write(folder, {"event": "second"})
        reader.join(0.05)
    assert not reader.is_alive()
    assert "before" not in seen
    assert len(seen) == 3


def logs(*arguments: str) -> str:
    said = io.StringIO()
    call_command("logs", *arguments, stdout=said)
    return said.getvalue()


LINES: tuple[dict[str, Any], ...] = (
    {"time": "2026-11-25T10:00:00Z", "level": "info", "logger": "a", "event": "begins", "job": "1"},
    {"time": "2026-11-25T10:00:01Z", "level": "error", "logger": "a", "event": "fails", "job": "1"},
    {"time": "2026-11-25T10:00:02Z", "level": "warning", "logger": "b", "event": "waits", "job": "2"},
)


def test_follow_shows_what_a_job_said_across_files(folder: Path) -> None:
    write(folder, *LINES[:1])
    log_files.rotate(folder, larger_than=0)
    settle(folder)
    log_files.rotate(folder, larger_than=10**6)
    write(folder, *LINES[1:])
    assert logs("follow", "--once", "--job", "1").splitlines() == [
        "2026-11-25 10:00:00 INFO     begins  [a job=1]",
        "2026-11-25 10:00:01 ERROR    fails  [a job=1]",
    ]
    assert [line.split()[3] for line in logs("follow", "--once", "--level", "warning").splitlines()] == [
        "fails", "waits",
    ]  # fmt: skip
    assert "waits" in logs("follow", "--once", "--lines", "1")
    assert "fails" not in logs("follow", "--once", "--lines", "1")


def test_a_line_of_another_program_is_shown_as_it_is(folder: Path) -> None:
    log_files.current(folder).write_text("Out of cheese\n[1]\n")
    assert "Out of cheese" in logs("follow", "--once")


def test_status_counts_by_level(folder: Path) -> None:
    assert "Lines: none" in logs("status")
    write(folder, *LINES)
    assert "Lines: 1 info, 1 warning, 1 error" in logs("status")
    assert "Lines: 1 info, 1 error" in logs("status", "--job", "1")


def test_clean_leaves_the_file_that_is_written(folder: Path) -> None:
    write(folder, *LINES)
    log_files.rotate(folder, larger_than=0)
    write(folder, *LINES[:1])
    assert "Deleted 1 files" in logs("clean")
    assert [line["event"] for line in log_files.lines(folder)] == ["begins"]


def test_a_full_disk_is_a_sentence_said_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "fluxsite.log").unlink(missing_ok=True)
    (folder / "fluxsite.log").symlink_to("/dev/full")
    handler = log_files.LogFile(folder, 10**6)
    for line in ("first", "second"):
        handler.handle(logging.makeLogRecord({"msg": line}))
    said = capsys.readouterr().err
    assert said.startswith(f"The log {folder}/fluxsite.log cannot be written: No space left on device.")
    assert said.count("\n") == 1
