"""A studio of real processes, started as its user starts it: ``./run`` with a data directory of its own."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery"
T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float = 60) -> T:
    """The first true value of ``condition``; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
    return value


class Studio:
    """``./run`` on ``data``, a directory; ``environment`` comes on top of a clean one."""

    def __init__(self, data: Path, *options: str, **environment: str) -> None:
        self.log = data.with_suffix(".log")
        ours = ("FLUXSITE_", "DJANGO_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment = {
            **clean,
            "FLUXSITE_DATA_DIR": str(data),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(ROOT / "run"), *options], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.url = self.said(r"fluxsite is at (http://\S+)")

    def said(self, pattern: str, seconds: float = 120) -> str:
        """The first group of ``pattern`` in what it printed, as soon as it is there."""

        def found() -> str | None:
            assert self.process.poll() is None, self.log.read_text()
            match = re.search(pattern, self.log.read_text())
            return match.group(1) if match else None

        return str(wait_for(found, seconds))

    def manage(self, *command: str) -> str:
        """What ``manage.py`` prints, run beside the studio."""
        done = subprocess.run(
            [str(ROOT / ".venv/bin/python"), str(ROOT / "manage.py"), *command],
            env=self.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def shell(self, code: str) -> str:
        """The last line that ``code`` prints in Django's shell."""
        return self.manage("shell", "--no-imports", "-c", code).splitlines()[-1]

    def token(self, user: str) -> str:
        return self.manage("create_token", user, "--name", "end to end")

    def processes(self) -> list[psutil.Process]:
        """Everything that runs because of it."""
        try:
            top = psutil.Process(self.process.pid)
        except psutil.NoSuchProcess:
            return []
        return [top, *top.children(recursive=True)]

    def process_of(self, *words: str) -> psutil.Process:
        """The first process whose command line holds all ``words``."""
        for process in self.processes():
            line = " ".join(process.cmdline())
            if all(word in line for word in words):
                return process
        raise AssertionError(f"no process {words}")

    def worker_of(self, engine: str) -> psutil.Process:
        """The process in which django-q2 runs the jobs of ``engine``."""
        for process in self.processes():
            is_cluster = "qcluster" in process.cmdline()
            if is_cluster and process.environ().get("Q_CLUSTER_NAME") == engine:
                worker: psutil.Process = process.children()[0].children()[0]
                return worker
        raise AssertionError(f"no worker of {engine}")

    def stop(self) -> int:
        """As Ctrl-C does; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def kill(self) -> None:
        for process in self.processes():
            if process.is_running():
                process.kill()
        self.process.wait()


class Api:
    """The API of a studio, with a token."""

    def __init__(self, studio: Studio, token: str) -> None:
        self.url = f"{studio.url}/api/v1"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def submit(self, prompt: str, **asked: Any) -> dict[str, Any]:
        response = self.session.post(f"{self.url}/jobs/", json={"prompt": prompt, **asked})
        assert response.status_code == 201, response.text
        return dict(response.json())

    def job(self, pk: str) -> dict[str, Any]:
        response = self.session.get(f"{self.url}/jobs/{pk}/")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def finished(self, pk: str, seconds: float = 90) -> dict[str, Any]:
        """The job, once it is over."""

        def over() -> dict[str, Any] | None:
            job = self.job(pk)
            return job if job["state"] in ("succeeded", "failed", "cancelled") else None

        return wait_for(over, seconds) or {}

    def draw(self, prompt: str, **asked: Any) -> list[bytes]:
        """The PNG files of a new job."""
        job = self.finished(self.submit(prompt, **asked)["id"])
        assert job["state"] == "succeeded", job
        return [self.session.get(image["file"]).content for image in job["images"]]
