"""The web process stays small: it never loads torch."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.e2e.studio import PASSWORD, ROOT, Api, Studio, wait_for
from tests.postgresql import free_port

HEAVY = {"torch", "diffusers", "transformers", "peft", "nunchaku", "numpy"}


@pytest.fixture
def modules_address(studio: Studio) -> Iterator[str]:
    """A second web process on the studio's data, whose every answer ends with the names of its modules."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "tests.e2e.inspected:application", "--no-control-socket"]
    process = subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{port}", "--log-level", "warning"], env=studio.environment, cwd=ROOT
    )
    wait_for(lambda: psutil.Process(process.pid).children())
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def test_a_web_process_never_imports_torch(modules_address: str, api: Api) -> None:
    session = requests.Session()
    session.headers.update(api.session.headers)

    def answers() -> bool:
        try:
            return session.get(f"{modules_address}/healthz").status_code == 200
        except requests.ConnectionError:
            return False

    wait_for(answers)
    job = session.post(f"{modules_address}/api/v1/jobs/", json={"prompt": "a red circle"})
    assert job.status_code == 201
    for path in ("/login/", "/api/v1/jobs/", "/api/v1/images/"):
        assert session.get(modules_address + path).status_code == 200
    modules = set(session.get(f"{modules_address}/modules").text.split())
    assert {"django", "generation", "gpu"} <= modules
    assert not modules & HEAVY


def test_a_web_process_stays_under_150_mb(start: Callable[..., Studio]) -> None:
    first = {"FLUXSITE_ADMIN_USER": "alice", "FLUXSITE_ADMIN_PASSWORD": PASSWORD}
    studio = start("--no-workers", **first)
    api = Api(studio, studio.token("alice"))
    for _ in range(100):
        assert api.session.get(f"{api.url}/jobs/").status_code == 200
    web = studio.process_of("gunicorn")
    for process in (web, *web.children()):
        megabytes = process.memory_info().rss / 1e6
        assert megabytes < 150, f"{process.pid}: {megabytes:.0f} MB"
    maps = Path(f"/proc/{web.children()[0].pid}/maps").read_text()
    assert "libtorch" not in maps
