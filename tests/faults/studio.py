"""A studio whose jobs fail as they are told, and what the tests ask of it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.e2e.studio import MANAGE, PASSWORD, Api, Studio, wait_for
from tests.faults.cluster import Cluster
from tests.postgresql import Server

PROMPT = "a red circle"
SMALL = {"width": 64, "height": 64, "steps": 3, "engine": "bf16"}
ATTEMPTS = 2
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
    "FLUXSITE_ADMIN_USER": "alice",
    "FLUXSITE_ADMIN_PASSWORD": PASSWORD,
    "FLUXSITE_LEASE_SECONDS": "3",
    "FLUXSITE_STUCK_SECONDS": "2",
    "FLUXSITE_MAX_ATTEMPTS": str(ATTEMPTS),
    "FLUXSITE_DISK_FLOOR_MB": "1",
    "FAULTS_PRELOAD": "yes",
}


def need(there: Any, what: str) -> None:
    """Skip where something is missing; in CI it must be there."""
    if not there and os.environ.get("CI") != "true":
        pytest.skip(what)
    assert there, what


def allowed(*command: str) -> bool:
    """Run what only root may do; whether it was done."""
    return subprocess.run(command, capture_output=True).returncode == 0


@contextlib.contextmanager
def asked_for(data: Path, fault: str) -> Iterator[None]:
    """A fault that a file asks for, of the studio or host whose data directory this is."""
    file = data / "var" / "faults" / fault
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    yield
    file.unlink()


class FaultyStudio(Studio):
    """With one worker, of the BF16 engine on the CPU, and a lease of 3 s."""

    def __init__(self, data: Path, *options: str, **environment: str) -> None:
        self.data = data
        super().__init__(data, *options, "--bf16", "cpu", **{**SETTINGS, **environment})
        self.cluster = Cluster(self.process.pid)
        self.housekeeping = Cluster(self.process.pid, "fluxsite")

    @cached_property
    def api(self) -> Api:
        """It asks again when the web process is killed under its question."""
        api = Api(self, self.token("alice"))
        api.session.mount("http://", HTTPAdapter(max_retries=Retry(total=8, backoff_factor=0.2)))
        return api

    def submit(self, *faults: str, **asked: Any) -> str:
        prompt = " ".join([PROMPT, *(f"fault:{fault}" for fault in faults)])
        return str(self.api.submit(prompt, **{**SMALL, **asked})["id"])

    def drawing(self, *faults: str, **asked: Any) -> str:
        """A job of which a step is done. Each takes half a second: there is time to break something."""
        pk = self.submit("slow", *faults, **asked)
        wait_for(lambda: self.api.job(pk)["progress"]["step"] > 0)
        return pk

    def finished(self, pk: str) -> dict[str, Any]:
        return self.api.finished(pk)

    def draws_again(self) -> None:
        """The next job goes well at its first attempt."""
        job = self.finished(self.submit())
        assert (job["state"], job["attempt"], job["notice"]) == ("succeeded", 1, ""), job

    # Behind the API -----------------------------------------------------------------------------------

    def outcomes(self, pk: str) -> list[str]:
        """What the ledger says of the attempts at a job, in order."""
        entries = f"UsageEntry.objects.filter(job='{pk}').order_by('attempt')"
        code = f"from accounts.models import UsageEntry; print(*{entries}.values_list('outcome', flat=True))"
        return self.shell(code).split()

    def worker_says(self, field: str, host: str = "") -> str:
        """A field of the worker's row; ``host``: of the worker there."""
        workers = (
            f"Worker.objects.filter(host='{host}')" if host else "Worker.objects.exclude(host='elsewhere')"
        )
        return self.shell(f"from gpu.models import Worker; print({workers}.get().{field})")

    def orphans(self) -> list[str]:
        """Files of pictures that no row names."""
        media = self.data / "media"
        files = {str(path.relative_to(media)) for path in (media / "images").rglob("*") if path.is_file()}
        rows = "Image.objects.values_list('file', 'thumbnail')"
        code = f"from generation.models import Image; print(*[name for row in {rows} for name in row])"
        return sorted(files - set(self.shell(code).split()))


class Studios:
    """A studio on each database, started when it is first asked for."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.request = request
        self.running: dict[str, FaultyStudio] = {}

    def on(self, database: str) -> FaultyStudio:
        if database not in self.running:
            url = {"FLUXSITE_DATABASE_URL": self.server.new_database()} if database == "postgresql" else {}
            self.running[database] = FaultyStudio(self.folder / database, **url)
        return self.running[database]

    @property
    def server(self) -> Server:
        server: Server = self.request.getfixturevalue("postgresql")
        return server

    def start_again(self, database: str) -> None:
        """What was killed, at the same address."""
        killed = self.running[database]
        self.running[database] = FaultyStudio(killed.data, "--port", str(urlsplit(killed.url).port))


class Host:
    """A second machine with a worker of its own, on the studio's database, pictures and secret key."""

    def __init__(self, studio: FaultyStudio, data: Path) -> None:
        need(allowed("unshare", "--uts", "true"), "A second host name needs root.")
        self.data = data
        data.mkdir()
        (data / "media").symlink_to(studio.data / "media")
        environment = {
            "FLUXSITE_DATABASE_URL": f"sqlite:///{studio.data}/var/fluxsite.sqlite3",
            **studio.environment,
            "FLUXSITE_DATA_DIR": str(data),
            "FLUXSITE_SECRET_KEY": (studio.data / "var" / "secret_key").read_text().strip(),
            "FLUXSITE_STUCK_SECONDS": "60",
            "FAULTS_PRELOAD": "",
        }
        named = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
        workers = [*MANAGE, "workers", "--bf16", "cpu"]
        self.process = subprocess.Popen([*named, *workers], env=environment, start_new_session=True)
        self.cluster = Cluster(self.process.pid)

    def kill(self) -> None:
        top = psutil.Process(self.process.pid)
        for process in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
