"""What the measurements share: a data directory and a database of their own, and real processes on them."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.postgresql import Server

ROOT = Path(__file__).resolve().parent.parent
DATABASES = ("sqlite", "postgresql")


class DurableServer(Server):
    """It flushes each commit to the disk, as a server in earnest does, and serves hundreds of workers."""

    SETTINGS = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "max_connections=500")

    def _popen(self, program: str, *options: str) -> "subprocess.Popen[bytes]":
        # The last one counts.
        durable = [word for setting in self.SETTINGS for word in ("-c", setting)]
        return super()._popen(program, *options, *(durable if program == "postgres" else []))


class Site:
    """``folder``: the data directory. ``environment``: on top of a clean one, for all its processes."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        ours = ("FLUXSITE_", "DJANGO_", "BENCH_", "Q_CLUSTER_NAME")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            "DJANGO_SETTINGS_MODULE": "bench.settings",
            "FLUXSITE_DATA_DIR": str(folder),
            "FLUXSITE_DISK_FLOOR_MB": "1",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }

    def enter(self) -> None:
        """Use its database in this process, too. Once in a process."""
        import django

        os.environ.update(self.environment)
        django.setup()

    def manage(self, *command: str) -> str:
        """What ``manage.py`` prints."""
        done = subprocess.run(
            self._manage(*command), env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout.strip()

    def start(self, *command: str, log: str = "processes.log") -> subprocess.Popen[bytes]:
        """Start a ``manage.py`` that goes on; what it prints is in ``log``."""
        with (self.folder / log).open("a") as file:
            return subprocess.Popen(
                self._manage(*command), env=self.environment, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @staticmethod
    def _manage(*command: str) -> list[str]:
        return [sys.executable, str(ROOT / "manage.py"), *command]

    def processes(self) -> list[psutil.Process]:
        """All that run on the data directory, whoever their parent is by now."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            mine = process.environ().get("FLUXSITE_DATA_DIR") == str(self.folder)
            return mine and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def kill(self) -> None:
        while there := self.processes():
            for process in there:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(there, timeout=5)


@contextlib.contextmanager
def new_site(database: str, **environment: str) -> Iterator[Site]:
    """A site whose tables are there; all of it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fluxsite-bench-"))
    server = DurableServer() if database == "postgresql" else None
    if server:
        environment["FLUXSITE_DATABASE_URL"] = server.new_database()
    site = Site(folder, **environment)
    try:
        site.manage("migrate", "--verbosity", "0")
        yield site
    finally:
        site.kill()
        if server:
            server.remove()
        shutil.rmtree(folder)


def wait_until(condition: Callable[[], bool], seconds: float = 120, every: float = 0.02) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s")
        time.sleep(every)
