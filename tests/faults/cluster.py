"""A django-q2 cluster as the tests see it: its processes by their names."""

import contextlib
from collections.abc import Iterable, Iterator

import psutil

from tests.e2e.studio import wait_for


class Cluster:
    """The cluster of this name that the supervisor whose process is ``top`` keeps running."""

    def __init__(self, top: int, name: str = "bf16") -> None:
        self.top = psutil.Process(top)
        self.name = name

    def part(self, name: str) -> psutil.Process:
        """Its process called main, sentinel, worker, monitor or pusher, as soon as there is one."""
        found = wait_for(lambda: self._find(name))
        assert found
        return found

    def _find(self, name: str) -> psutil.Process | None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for main in self.top.children():
                if "qcluster" in main.cmdline() and main.environ().get("Q_CLUSTER_NAME") == self.name:
                    below = main.children(recursive=True)
                    return main if name == "main" else next((p for p in below if p.name() == name), None)
        return None

    def all(self) -> list[psutil.Process]:
        main = self.part("main")
        return [main, *main.children(recursive=True)]

    def kill_monitor(self) -> None:
        """It takes the lock of its queue with it: the one that follows never hears of the end."""
        monitor = self.part("monitor")
        monitor.kill()
        wait_for(lambda: self.part("monitor") != monitor)

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """It hears of no job meanwhile."""
        pusher = self.part("pusher")
        pusher.suspend()
        try:
            yield
        finally:
            pusher.resume()


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that run still; one that is dead and not yet buried does not."""

    def is_alive(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [process for process in processes if is_alive(process)]
