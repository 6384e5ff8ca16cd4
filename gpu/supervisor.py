"""Keeps processes running: starts them, starts again what dies, and stops them in order.

Each child has a session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone: a
signal to the whole group would end django-q2's processes in the middle of a picture.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

from gpu.process import die_with_parent

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
# A child that ran this long was healthy: its next start is at once again.
HEALTHY_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 30.0


@dataclass
class Child:
    """A command to keep running. ``environment`` comes on top of ours; ``pass_fds`` are open sockets."""

    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.environment},
            pass_fds=self.pass_fds,
            start_new_session=True,
            # If the supervisor itself is killed the child stops in good order.
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )
        self.started_at = time.monotonic()

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def plan_restart(self) -> None:
        """At once the first time; after each quick death wait twice as long, up to half a minute."""
        assert self.process
        healthy = time.monotonic() - self.started_at > HEALTHY_SECONDS
        self.failures = 0 if healthy else self.failures + 1
        pause = min(0.25 * 2**self.failures, LONGEST_PAUSE_SECONDS) if self.failures else 0.0
        log.warning("%s ended with %s; starting again in %.1f s", self.name, self.process.returncode, pause)
        self.process = None
        self.start_at = time.monotonic() + pause

    def terminate(self) -> None:
        """Ask the child to finish what it does and stop."""
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """Stop the child and everything it started, now."""
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.process.wait()


class Supervisor:
    """Runs ``children`` until SIGTERM or SIGINT; a second one stops at once.

    On stopping the last child goes first: it is given the time it needs, then the one before it.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = children
        self.signals = 0

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)
        try:
            while not self.signals:
                self._tend()
                time.sleep(POLL_SECONDS)
            self._stop()
        finally:
            for child in self.children:
                child.kill()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

    def _tend(self) -> None:
        for child in self.children:
            if child.has_ended():
                child.plan_restart()
            if child.process is None and time.monotonic() >= child.start_at:
                child.start()

    def _stop(self) -> None:
        log.info("Stopping: the picture being drawn is finished first. Once more to stop at once.")
        for child in reversed(self.children):
            child.terminate()
            while not child.has_ended() and child.process and self.signals < 2:
                time.sleep(POLL_SECONDS)
