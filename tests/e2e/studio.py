"""A studio of real processes, started as its user starts it: ``./run`` with a data directory of its own."""

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

from tests.postgresql import free_port

ROOT = Path(__file__).resolve().parents[2]
MANAGE = (str(ROOT / ".venv/bin/python"), str(ROOT / "manage.py"))
PASSWORD = "correct horse battery"
# Longer than anything takes, even where four studios share two cores: who waits in vain waits so long.
PATIENCE_SECONDS = 180
T = TypeVar("T")

# Django's shell for many questions: a new one takes a second to start. A line of its input is code as
# JSON, a line of its output what that printed, and the trace if it failed.
CONSOLE = """
import contextlib, io, json, sys, traceback
from django.db import connections
for line in sys.stdin:
    printed, trace = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(json.loads(line), {})
        except Exception:
            trace = traceback.format_exc()
    connections.close_all()
    print(json.dumps([printed.getvalue(), trace]), flush=True)
"""


# The demo LoRAs, tried: a trial begins when a chore comes due, and would draw amid what a test looks at.
TRIED_LORAS = """
from gpu.engines import ENGINES
from loras.library import add_demo_loras
from loras.models import Admission
Admission.objects.bulk_create(
    Admission(lora=lora, engine=engine, state=Admission.State.WORKS)
    for lora in add_demo_loras() for engine in ENGINES
)
"""


@cache
def new_studio() -> Path:
    """A data directory that was just made: migrations and static files take longer than a start."""
    folder = Path(tempfile.mkdtemp(prefix="fluxsite-new-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment = {**clean_environment(), "FLUXSITE_DATA_DIR": str(folder)}
    shell = ["shell", "--no-imports", "-c", TRIED_LORAS]
    for command in (["migrate"], ["collectstatic", "--noinput"], shell):
        subprocess.run([*MANAGE, *command, "--verbosity", "0"], env=environment, check=True)
    return folder


def clean_environment() -> dict[str, str]:
    ours = ("FLUXSITE_", "DJANGO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def wait_for(condition: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """The first true value of ``condition``; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"timed out after {seconds} s"
        time.sleep(0.05)
    return value


class Studio:
    """``./run`` on ``data``, a directory, and on a free port; ``environment`` comes on top of a clean one.

    A new directory is one that ``./run`` has prepared before: what is left to do then is what it ends with.
    """

    def __init__(self, data: Path, *options: str, **environment: str) -> None:
        self.log = data.with_suffix(".log")
        self.environment = {
            **clean_environment(),
            "FLUXSITE_DATA_DIR": str(data),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            # Tests wait by asking often.
            "FLUXSITE_REQUESTS_A_MINUTE": "1000000",
            **environment,
        }
        command = [str(ROOT / "run")]
        if "FLUXSITE_DATABASE_URL" not in environment and not data.exists():
            shutil.copytree(new_studio(), data)
            command = [*MANAGE, "up"]
        if "--port" not in options:
            options = ("--port", str(free_port()), *options)
        self._console: subprocess.Popen[str] | None = None
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *options], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            self.url = self.said(r"fluxsite is at (http://\S+)")
        except BaseException:
            self.kill()
            raise

    def said(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> str:
        """The first group of ``pattern`` in what it printed, as soon as it is there."""

        def found() -> str | None:
            assert self.process.poll() is None, self.log.read_text()
            match = re.search(pattern, self.log.read_text())
            return match.group(1) if match else None

        return str(wait_for(found, seconds))

    def manage(self, *command: str) -> str:
        """What ``manage.py`` prints, run beside the studio in a process of its own: it takes a second."""
        done = subprocess.run(
            [*MANAGE, *command], env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def shell(self, code: str) -> str:
        """The last line that ``code`` prints in Django's shell, beside the studio."""
        printed, trace = self._ask(code)
        assert not trace, trace
        return printed.splitlines()[-1]

    def _ask(self, code: str) -> tuple[str, str]:
        if self._console is None:
            self._console = subprocess.Popen(
                [*MANAGE, "shell", "--no-imports", "-c", CONSOLE],
                env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._console.stdin
        assert self._console.stdout
        print(json.dumps(code), file=self._console.stdin, flush=True)
        printed, trace = json.loads(self._console.stdout.readline())
        return str(printed), str(trace)

    def token(self, user: str) -> str:
        """A new API token of ``user``."""
        command = f"call_command('create_token', {user!r}, name='end to end')"
        return self.shell(f"from django.core.management import call_command; {command}")

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
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """End all of it at once; what is dead already is no error."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        if self._console:
            self._console.kill()
            self._console.communicate()
            self._console = None


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

    def finished(self, pk: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
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
