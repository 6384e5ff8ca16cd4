"""More than one machine: a web host and two that draw, with PostgreSQL and an S3 store between them.

Each drawing host is a network namespace of its own, so that it can be cut off as a cable is pulled.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.e2e.studio import MANAGE, PASSWORD, ROOT, Api, Studio, clean_environment, wait_for
from tests.postgresql import MISSING, Server, programs
from tests.store import new_bucket, serving

NETWORK = "10.77.0"
WEB = f"{NETWORK}.1"
LEASE_SECONDS = 6
JOBS = 100
CLONE_NEWNET = 0x40000000  # linux/sched.h


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Host:
    """A machine that draws, on a network of its own; ``number``: the last part of its address, from 2 on."""

    def __init__(self, number: int, data: Path, environment: dict[str, str]) -> None:
        self.name = f"fluxsite-{number}"
        self.cable, inner = f"fluxsite{number}", f"fluxsite{number}i"
        ip("netns", "add", self.name)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", inner)
        ip("link", "set", self.cable, "master", "fluxsite0")
        ip("link", "set", inner, "netns", self.name)
        ip("-n", self.name, "address", "add", f"{NETWORK}.{number}/24", "dev", inner)
        ip("-n", self.name, "link", "set", inner, "up")
        self.connect()
        self.data, self.log = data, data.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *MANAGE, "workers", "--bf16", "cpu"],
                env={**environment, "FLUXSITE_DATA_DIR": str(data), "FLUXSITE_HOST": self.name},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def connect(self) -> None:
        ip("link", "set", self.cable, "up")

    def cut_off(self) -> None:
        ip("link", "set", self.cable, "down")

    def remove(self) -> None:
        top = psutil.Process(self.process.pid)
        for process in [*top.children(recursive=True), top]:
            process.kill()
        self.process.wait()
        ip("netns", "delete", self.name)


@contextmanager
def network() -> Iterator[None]:
    """A switch with this thread on it and all that it starts, in a namespace as well: browsers of other tests
    give up what they load when interfaces of theirs come and go.
    """
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)  # os.unshare and os.setns are Python's from 3.12 on
    try:
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        ip("link", "set", "lo", "up")
        ip("link", "add", "fluxsite0", "type", "bridge")
        ip("address", "add", f"{WEB}/24", "dev", "fluxsite0")
        ip("link", "set", "fluxsite0", "up")
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(before)


@pytest.fixture
def needs() -> None:
    """What only root on Linux can make, and PostgreSQL."""
    missing = MISSING if programs() is None else ""
    if os.geteuid() or not shutil.which("ip"):
        missing = "Network namespaces need root and iproute2 (apt install iproute2)."
    if missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)


@pytest.mark.usefixtures("needs")
def test_a_host_that_is_cut_off_and_comes_back_changes_nothing(tmp_path: Path) -> None:
    with network(), serving(WEB) as store:
        server = Server(WEB)
        shared = {
            "FLUXSITE_DATABASE_URL": server.new_database().replace("127.0.0.1", WEB),
            "FLUXSITE_STORAGE_URL": new_bucket(store, "studio"),
            "FLUXSITE_SECRET_KEY": "of all hosts" * 5,
            "FLUXSITE_LEASE_SECONDS": str(LEASE_SECONDS),
            "FLUXSITE_MODEL": "store:demo",
        }
        share_the_demo_model(tmp_path / "elsewhere", shared)
        first = {"FLUXSITE_ADMIN_USER": "alice", "FLUXSITE_ADMIN_PASSWORD": PASSWORD}
        studio = Studio(tmp_path / "web", "--no-workers", "--host", WEB, **shared, **first)
        hosts: list[Host] = []
        try:
            hosts += [Host(number, tmp_path / f"gpu-{number}", studio.environment) for number in (2, 3)]
            draw_while_one_is_cut_off(studio, *hosts)
        finally:
            for host in hosts:
                host.remove()
            studio.kill()
            server.remove()


def share_the_demo_model(data: Path, shared: dict[str, str]) -> None:
    environment = {**clean_environment(), **shared, "FLUXSITE_DATA_DIR": str(data)}
    command = [*MANAGE, "models", "share", str(ROOT / "demo" / "model"), "--name", "demo"]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def draw_while_one_is_cut_off(studio: Studio, cut: Host, other: Host) -> None:
    api = Api(studio, studio.token("alice"))
    jobs = [
        api.submit(f"a red circle {number}", width=64, height=64, loras=[{"slug": "night"}])["id"]
        for number in range(JOBS)
    ]

    def drawn_by(host: Host) -> int:
        count = f"UsageEntry.objects.filter(worker__startswith='{host.name}/', images=1).count()"
        return int(studio.shell(f"from accounts.models import UsageEntry; print({count})"))

    wait_for(lambda: drawn_by(cut) > 3 and drawn_by(other) > 3)
    before = drawn_by(cut)
    held = f"Job.objects.filter(state='running', worker__host='{cut.name}').count()"

    def cut_off_with_a_job() -> bool:
        """Between two jobs it has none to lose: then once more."""
        cut.cut_off()
        time.sleep(0.5)
        if int(studio.shell(f"from generation.models import Job; print({held})")):
            return True
        cut.connect()
        return False

    wait_for(cut_off_with_a_job)
    lost = "UsageEntry.objects.filter(outcome='lost').count()"
    wait_for(lambda: int(studio.shell(f"from accounts.models import UsageEntry; print({lost})")) > 0)
    time.sleep(1)
    cut.connect()
    for job in jobs:
        assert api.finished(job)["state"] == "succeeded"
    wait_for(lambda: "this attempt does not count" in cut.log.read_text())

    def draws_again() -> bool:
        jobs.append(api.submit("one more", width=64, height=64)["id"])
        return api.finished(jobs[-1])["state"] == "succeeded" and drawn_by(cut) > before

    wait_for(draws_again)
    for host in (cut, other):
        assert (host.data / "var/models/demo/transformer/diffusion_pytorch_model.safetensors").is_symlink()
    for job in map(api.job, jobs):
        (image,) = job["images"]
        assert hashlib.sha256(api.session.get(image["file"]).content).hexdigest() == image["sha256"]
    once = "len({entry.job for entry in ended}), len(ended)"
    ended = "ended = UsageEntry.objects.filter(outcome='succeeded', user__username='alice')"
    code = f"from accounts.models import UsageEntry; {ended}; print({once})"
    assert studio.shell(code) == f"{len(jobs)} {len(jobs)}"
