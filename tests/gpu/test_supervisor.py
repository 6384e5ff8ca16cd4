"""The supervisor, with real processes: it starts again what dies and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = """
import sys
from gpu.supervisor import Child, Supervisor
child = '''{child}'''
Supervisor([Child(name, [sys.executable, '-c', child, name]) for name in ('web', 'worker')]).run()
"""

# Writes its pid to a file of its name at every start, and a line to the log when it stops in good order.
CHILD = """
import os, pathlib, signal, sys, time
name, here = sys.argv[1], pathlib.Path({folder!r})
def stop(number, frame):
    (here / (name + ' stops')).touch()
    time.sleep({finishing})
    (here / 'log').open('a').write(name + ' ')
    sys.exit()
signal.signal(signal.SIGTERM, stop)
(here / name).write_text(str(os.getpid()))
while True:
    time.sleep(.01)
"""


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def pid_of(name: str, folder: Path) -> int:
    path = folder / name
    return int(path.read_text() or 0) if path.exists() else 0


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Whoever is nobody's child any more may wait as a zombie for init to look.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


Start = Callable[[float], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running = []

    def start(finishing: float = 0.0) -> subprocess.Popen[bytes]:
        child = CHILD.format(folder=str(tmp_path), finishing=finishing)
        process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(child=child)])
        running.append(process)
        wait_for(lambda: pid_of("web", tmp_path) and pid_of("worker", tmp_path))
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_it_starts_again_what_dies(start: Start, tmp_path: Path) -> None:
    start(0)
    first = pid_of("worker", tmp_path)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: pid_of("worker", tmp_path) not in (0, first))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_the_workers_before_the_web_and_lets_them_finish(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(0.3)
    process.send_signal(number)
    assert process.wait(60) == 0
    assert (tmp_path / "log").read_text() == "worker web "
    assert not lives(pid_of("web", tmp_path))


def test_a_second_signal_stops_at_once(start: Start, tmp_path: Path) -> None:
    process = start(60)
    process.send_signal(signal.SIGINT)
    wait_for((tmp_path / "worker stops").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not lives(pid_of("worker", tmp_path))
    assert not lives(pid_of("web", tmp_path))


def test_its_children_stop_when_it_is_killed(start: Start, tmp_path: Path) -> None:
    process = start(0)
    process.kill()
    wait_for(lambda: not lives(pid_of("web", tmp_path)) and not lives(pid_of("worker", tmp_path)))
    assert sorted((tmp_path / "log").read_text().split()) == ["web", "worker"]
