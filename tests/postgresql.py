"""A PostgreSQL server of the tests' own, on this machine, with nothing in it that must be kept."""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path

import psycopg
from django.core.exceptions import ImproperlyConfigured

from gpu.process import die_with_parent

MISSING = "No PostgreSQL. Install it (Debian, Ubuntu: apt install postgresql)."
# Nothing is kept when the machine loses power, and nothing waits for the disk.
SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")
START_SECONDS = 60


def programs() -> Path | None:
    """The directory of initdb and postgres; Debian keeps it off the PATH."""
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda path: int(path.parts[-3]), default=None)
    found = newest or shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def free_port() -> int:
    """A port that nobody has, and that Linux gives to no outgoing connection (those begin at 32768)."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port


class Server:
    """A server that runs until this process ends, however it ends. Whoever is on this machine may connect.

    Raises ImproperlyConfigured where PostgreSQL is not installed.
    """

    def __init__(self, *addresses: str) -> None:
        """``addresses``: of this machine, beside 127.0.0.1, that others of the same network may use."""
        found = programs()
        if found is None:
            raise ImproperlyConfigured(MISSING)
        self._programs = found
        # The server refuses to run as root; Debian's package makes this user.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="fluxsite-postgresql-"))
        if self._user:
            shutil.chown(self._folder, self._user, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        atexit.register(self.remove)
        options = ("--username=fluxsite", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        initdb = self._popen("initdb", *options)
        assert initdb.wait() == 0, self.log()
        with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        self._addresses = ",".join(["127.0.0.1", *addresses])
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start it, after ``stop`` on the same port and data again; it answers when this returns."""
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        address = ["-h", self._addresses, "-p", str(self.port), "-k", str(self._folder)]
        self._process = self._popen("postgres", *address, *settings)
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < end, self.log()  # noqa: PT018
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Stop it and delete its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://fluxsite@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a new empty database."""
        name = f"studio_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def cut(self, url: str) -> int:
        """End every connection to the database at ``url``; returns how many there were."""
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            return len(connection.execute(query, [url.rpartition("/")[2]]).fetchall())

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def _popen(self, program: str, *options: str) -> "subprocess.Popen[bytes]":
        with (self._folder / "log").open("a") as log:
            return subprocess.Popen(
                [self._programs / program, "-D", self._folder / "data", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                user=self._user, group=self._user, extra_groups=[] if self._user else None,
                # A Ctrl-C is not meant for it, and it goes when this process is killed.
                start_new_session=True, preexec_fn=partial(die_with_parent, signal.SIGQUIT),
            )  # fmt: skip
