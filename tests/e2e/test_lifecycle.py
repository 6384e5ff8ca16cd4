"""Starting, stopping, and what happens when something is killed."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from tests.e2e.studio import PASSWORD, ROOT, Api, Studio, wait_for

Start = Callable[..., Studio]
ADMIN = {"FLUXSITE_ADMIN_USER": "alice", "FLUXSITE_ADMIN_PASSWORD": PASSWORD}
SLOW = {"width": 256, "height": 256, "count": 4, "steps": 50}


def running(api: Api, **asked: int) -> str:
    """Submit a job and wait until it is being drawn."""
    pk = str(api.submit("a red circle", **{**SLOW, **asked})["id"])
    wait_for(lambda: api.job(pk)["progress"]["step"] > 0)
    return pk


def test_ctrl_c_lets_the_running_picture_finish_and_leaves_no_process(start: Start) -> None:
    studio = start("--port", "18600", **ADMIN)
    pk = running(Api(studio, studio.token("alice")), steps=20, count=1)
    processes = studio.processes()
    assert studio.stop() == 0
    assert not [process for process in processes if process.is_running()]
    job = f"from generation.models import Job; job = Job.objects.get(pk='{pk}')"
    assert studio.shell(f"{job}; print(job.state, job.images.count())") == "succeeded 1"


def test_a_second_ctrl_c_stops_at_once(start: Start) -> None:
    studio = start("--port", "18600", **ADMIN)
    running(Api(studio, studio.token("alice")))
    processes = studio.processes()
    studio.process.send_signal(signal.SIGINT)
    studio.said("(Stopping)")
    studio.process.send_signal(signal.SIGINT)
    studio.process.wait(5)
    psutil.wait_procs(processes, timeout=5)
    assert not [process for process in processes if process.is_running()]


def test_a_job_survives_the_death_of_its_worker_and_of_everything(start: Start) -> None:
    studio = start("--port", "18600", **ADMIN, FLUXSITE_LEASE_SECONDS="3")
    api = Api(studio, studio.token("alice"))
    pk = running(api, steps=20)
    studio.worker_of("bf16").kill()
    job = api.finished(pk)
    assert (job["state"], job["attempt"], len(job["images"])) == ("succeeded", 2, 4)

    pk = running(api, steps=20)
    processes = studio.processes()
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)
    again = start("--port", "18600", FLUXSITE_DATA_DIR=studio.environment["FLUXSITE_DATA_DIR"])
    again_api = Api(again, again.token("alice"))
    assert again_api.finished(pk)["state"] == "succeeded"


def test_a_worker_killed_while_idle_does_not_stop_the_queue(start: Start) -> None:
    studio = start("--port", "18600", **ADMIN)
    api = Api(studio, studio.token("alice"))
    api.draw("a red circle", width=64, height=64)
    studio.worker_of("bf16").kill()
    assert api.draw("a red circle", width=64, height=64)


def test_workers_run_apart_from_the_pages_on_the_devices_they_are_told(start: Start) -> None:
    studio = start("--port", "18600", "--fp4", "cpu", **ADMIN)
    api = Api(studio, studio.token("alice"))
    assert api.draw("a red circle", width=64, height=64, engine="fp4")
    pk = api.submit("a red circle", width=64, height=64, engine="bf16")["id"]
    assert api.job(pk)["state"] == "queued"
    command = [str(ROOT / ".venv/bin/python"), str(ROOT / "manage.py"), "workers", "--bf16", "cpu"]
    with subprocess.Popen(command, env=studio.environment, stdout=subprocess.PIPE, text=True) as workers:
        assert api.finished(pk)["state"] == "succeeded"
        workers.send_signal(signal.SIGTERM)
        said, _ = workers.communicate(timeout=30)
    assert (workers.returncode, "bf16 on" in said, said.endswith("Stopped.\n")) == (0, True, True)


def test_a_device_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / ".venv/bin/python"), str(ROOT / "manage.py"), "workers", "--fp4", "7"],
        env={**os.environ, "FLUXSITE_DATA_DIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "There is no device 7. There are:" in done.stderr


def test_a_taken_port_is_left_alone_and_the_next_one_used(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 18700)):
        studio = start("--port", "18700", **ADMIN)
        assert studio.url == "http://127.0.0.1:18701"
        assert "Port 18700 is taken by another program; using 18701." in studio.log.read_text()
        assert requests.get(f"{studio.url}/healthz", timeout=10).text == "ok\n"


def test_for_other_machines_it_answers_to_its_name_and_to_no_other(start: Start) -> None:
    studio = start("--host", "0.0.0.0", "--port", "18600", **ADMIN)  # noqa: S104
    assert studio.url == "http://localhost:18600"
    for host, status in ((socket.gethostname(), 200), ("elsewhere.example", 400)):
        assert requests.get(f"{studio.url}/login/", headers={"Host": host}, timeout=10).status_code == status


def test_without_users_it_prints_a_set_up_link_once(start: Start) -> None:
    studio = start("--port", "18600")
    link = studio.said(r"(http://127\.0\.0\.1:\d+/setup/\S+)")
    assert requests.get(link, timeout=10).status_code == 200


def test_everything_lives_in_the_data_directory(studio: Studio, api: Api) -> None:
    api.draw("a red circle", width=64, height=64)
    data = Path(studio.environment["FLUXSITE_DATA_DIR"])
    for path in ("var/fluxsite.sqlite3", "var/secret_key", "var/log", "media/images", "media/loras"):
        assert (data / path).exists(), path
    started = psutil.Process(studio.process.pid).create_time()
    elsewhere = [path for folder in ("var", "media") for path in (ROOT / folder).rglob("*")]
    assert not [path for path in elsewhere if path.is_file() and path.stat().st_mtime > started]


def test_it_names_the_python_that_is_missing(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "env"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    (tmp_path / "run").write_bytes((ROOT / "run").read_bytes())
    (tmp_path / "environment.sh").write_bytes((ROOT / "environment.sh").read_bytes())
    done = subprocess.run(
        ["/usr/bin/bash", str(tmp_path / "run")], env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr


@pytest.mark.parametrize("password", ["short"])
def test_a_weak_password_in_the_environment_is_named(tmp_path: Path, password: str) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "fluxsite.settings",
        "FLUXSITE_DATA_DIR": str(tmp_path),
        "FLUXSITE_ADMIN_USER": "alice",
        "FLUXSITE_ADMIN_PASSWORD": password,
    }
    manage = [str(ROOT / ".venv/bin/python"), str(ROOT / "manage.py")]
    subprocess.run([*manage, "migrate", "-v0"], env=environment, check=True)
    done = subprocess.run([*manage, "up"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FLUXSITE_ADMIN_PASSWORD: 5 characters. Use 12 or more" in done.stderr
