"""What slow clients cost everyone else: ``python -m bench.slow``. Needs 200 MB of free disk.

200 connections with half a header, 200 with half a body, and 64 readers each of a picture and of a large ZIP
that take 1 kB/s; a connection that the server ends is opened again 5 s later. Meanwhile ``/healthz`` and
``/login/`` are asked for. Rounds without and with this load alternate, as a busy machine changes while it is
measured. The web process is the one that ``manage.py up`` starts, without nginx; then it is gunicorn's own
threaded worker with 16 threads, as in version 0.1.
"""

import argparse
import contextlib
import http.client
import platform
import socket
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from bench.api import p95
from bench.processes import ROOT, Site, new_site, wait_until
from fluxsite import server
from tests.postgresql import free_port

PATHS = ("/healthz", "/login/")
HALF, READERS, BYTES_A_SECOND = 200, 64, 1000
PICTURES, PICTURE_BYTES = 3, 50_000_000
ROUNDS, SECONDS, A_SECOND, TIMEOUT = 3, 12, 10, 5
RETRY_SECONDS, SETTLE_SECONDS = 5, 3
BEFORE = ("--worker-class", "gthread", "--threads", "16")


class SlowClients:
    """Connections that begin with ``first`` and then read at BYTES_A_SECOND, until ``close``."""

    def __init__(self, port: int, first: dict[bytes, int]) -> None:
        self.port = port
        self.statuses: Counter[str] = Counter()
        self._open = {self._connect(data): data for data, count in first.items() for _ in range(count)}
        self._later: list[tuple[float, bytes]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _connect(self, data: bytes) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(TIMEOUT)
        made.connect(("127.0.0.1", self.port))
        made.sendall(data)
        made.setblocking(False)
        return made

    def _read(self) -> None:
        while not self._ended.wait(1):
            for client in list(self._open):
                with contextlib.suppress(BlockingIOError):
                    self._take(client)
            self._open_again(time.monotonic())

    def _take(self, client: socket.socket) -> None:
        try:
            data = client.recv(BYTES_A_SECOND)
        except ConnectionError:
            data = b""
        if data.startswith(b"HTTP/1.1 "):
            self.statuses[data[9:12].decode()] += 1
        if not data:
            client.close()
            self._later.append((time.monotonic() + RETRY_SECONDS, self._open.pop(client)))

    def _open_again(self, now: float) -> None:
        for at, first in [each for each in self._later if each[0] <= now]:
            self._later.remove((at, first))
            with contextlib.suppress(OSError):
                self._open[self._connect(first)] = first

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for client in self._open:
            client.close()


@dataclass
class Figures:
    seconds: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PATHS})
    failed: Counter[str] = field(default_factory=Counter)

    def measure(self, port: int) -> None:
        """One request after another to each path, at its time or as soon as the one before is answered."""
        threads = [threading.Thread(target=self._ask, args=(port, path)) for path in PATHS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask(self, port: int, path: str) -> None:
        end = time.perf_counter() + SECONDS
        while (start := time.perf_counter()) < end:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            try:
                connection.request("GET", path)
                if (answer := connection.getresponse()).status != 200:
                    raise RuntimeError(f"{path} answered {answer.status}")
                answer.read()
                self.seconds[path].append(time.perf_counter() - start)
            except OSError:
                self.failed[path] += 1
            finally:
                connection.close()
            time.sleep(max(0.0, start + 1 / A_SECOND - time.perf_counter()))

    def __str__(self) -> str:
        return "; ".join(f"{path} {self._of(path)}" for path in PATHS)

    def _of(self, path: str) -> str:
        taken = self.seconds[path]
        if not taken:
            return f"no answer to any of {self.failed[path]} requests within {TIMEOUT} s"
        median, slow = statistics.median(taken) * 1000, p95(taken) * 1000
        return f"{median:.1f} ms, p95 {slow:.1f} ms, {len(taken)} answers, {self.failed[path]} without"


def shared_pictures() -> list[str]:
    """The addresses of large pictures, and last that of the ZIP of them, for people without an account."""
    from django.core.files.storage import default_storage
    from django.utils import timezone

    from accounts.models import User
    from generation.models import Collection, ShareLink
    from tests.generation.drawn import finished

    ana = User.objects.create_user("ana")
    job = finished(ana, count=PICTURES)
    pictures = list(job.images.all())
    for image in pictures:
        with Path(default_storage.path(str(image.file))).open("r+b") as file:
            file.truncate(PICTURE_BYTES)
    collection = Collection.objects.create(owner=ana, name="Large")
    collection.add(pictures)
    link = ShareLink.objects.create(
        owner=ana,
        collection=collection,
        with_recipe=True,
        expires_at=timezone.now() + timedelta(days=1),
    )
    return [f"/s/{link.token}/{image.pk}/file" for image in pictures] + [f"/s/{link.token}/all.zip"]


def slow_requests(addresses: list[str]) -> dict[bytes, int]:
    def asked(path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    half_body = b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\nusername="
    return {
        b"GET / HTTP/1.1\r\nHost: loc": HALF,
        half_body: HALF,
        asked(addresses[0]): READERS,
        asked(addresses[-1]): READERS,
    }


@contextlib.contextmanager
def web(site: Site, *options: str) -> Iterator[tuple[int, "psutil.Process"]]:
    port = free_port()
    command = [*server.command(f"127.0.0.1:{port}"), *options]
    process = subprocess.Popen(command, env=site.environment, cwd=ROOT)
    try:
        wait_until(lambda: answers(port))
        yield port, psutil.Process(process.pid).children()[0]
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def compare(site: Site, addresses: list[str], rounds: int, *options: str) -> None:
    without, beside, statuses = Figures(), Figures(), Counter[str]()
    most: dict[str, Any] = {"threads": 0, "megabytes": 0.0}
    with web(site, *options) as (port, process):
        Figures().measure(port)
        for _ in range(rounds):
            without.measure(port)
            slow = SlowClients(port, slow_requests(addresses))
            time.sleep(SETTLE_SECONDS)
            beside.measure(port)
            most["threads"] = max(most["threads"], process.num_threads())
            most["megabytes"] = max(most["megabytes"], process.memory_info().rss / 1e6)
            slow.close()
            statuses += slow.statuses
    print(f"without slow clients: {without}")
    print(f"beside slow clients:  {beside}")
    for path in PATHS:
        if beside.seconds[path]:
            print(f"{path} p95 (≤ 2 ×): {p95(beside.seconds[path]) / p95(without.seconds[path]):.2f} ×")
    print(f"at most {most['threads']} threads, {most['megabytes']:.0f} MB; slow readers got {dict(statuses)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each side")
    rounds: int = parser.parse_args().rounds
    print(f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} processors")
    with new_site("sqlite") as site:
        site.manage("collectstatic", "--noinput", "--verbosity", "0")
        site.enter()
        addresses = shared_pictures()
        print("\nThe web server:")
        compare(site, addresses, rounds)
        print("\nGunicorn's gthread with 16 threads:")
        compare(site, addresses, 1, *BEFORE)


if __name__ == "__main__":
    main()
