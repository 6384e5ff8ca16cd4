"""Starting, stopping, and what happens when something is killed."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from fluxsite.listen import own_addresses
from tests.e2e.studio import MANAGE, PASSWORD, ROOT, Api, Studio, wait_for
from tests.postgresql import free_port

Start = Callable[..., Studio]
ADMIN = {"FLUXSITE_ADMIN_USER": "alice", "FLUXSITE_ADMIN_PASSWORD": PASSWORD}
BF16 = ("--bf16", "cpu")
SLOW = {"width": 256, "height": 256, "count": 4, "steps": 50}


def running(api: Api, **asked: int) -> str:
    """Submit a job and wait until it is being drawn."""
    pk = str(api.submit("a red circle", **{**SLOW, **asked})["id"])
    wait_for(lambda: api.job(pk)["progress"]["step"] > 0)
    return pk


def state_of(studio: Studio, pk: str) -> str:
    """State and number of pictures of a job, though no web process runs."""
    job = f"from generation.models import Job; job = Job.objects.get(pk='{pk}')"
    return studio.shell(f"{job}; print(job.state, job.images.count())")


def test_ctrl_c_lets_the_running_picture_finish_and_leaves_no_process(start: Start) -> None:
    studio = start(**ADMIN)
    pk = running(Api(studio, studio.token("alice")), steps=20, count=1)
    processes = studio.processes()
    assert studio.stop() == 0
    assert not [process for process in processes if process.is_running()]
    assert state_of(studio, pk) == "succeeded 1"


def test_a_second_ctrl_c_stops_at_once(start: Start) -> None:
    studio = start(*BF16, **ADMIN)
    pk = running(Api(studio, studio.token("alice")))
    processes = studio.processes()
    studio.process.send_signal(signal.SIGINT)
    studio.said("(Stopping)")
    studio.process.send_signal(signal.SIGINT)
    studio.process.wait(15)
    psutil.wait_procs(processes, timeout=15)
    assert not [process for process in processes if process.is_running()]
    assert state_of(studio, pk).startswith("running")


BY_HAND = pytest.param("postgresql", marks=pytest.mark.slow)  # test_faults has much of it there


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.xdist_group("studio")), BY_HAND])
def either(request: pytest.FixtureRequest) -> tuple[Studio, Api]:
    """A studio on each database."""
    if request.param == "sqlite":
        return request.getfixturevalue("studio"), request.getfixturevalue("api")
    url, start = request.getfixturevalue("postgresql_url"), request.getfixturevalue("start")
    studio = start(*BF16, **ADMIN, FLUXSITE_DATABASE_URL=url)
    return studio, Api(studio, studio.token("alice"))


def test_a_job_survives_the_death_of_its_worker(either: tuple[Studio, Api]) -> None:
    studio, api = either
    pk = running(api, steps=20)
    studio.worker_of("bf16").kill()
    job = api.finished(pk)
    assert (job["state"], job["attempt"], len(job["images"])) == ("succeeded", 2, 4)


def test_a_job_survives_the_death_of_everything(start: Start) -> None:
    studio = start(*BF16, **ADMIN)
    pk = running(Api(studio, studio.token("alice")), steps=20)
    processes = studio.processes()
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)
    again = start(*BF16, FLUXSITE_DATA_DIR=studio.environment["FLUXSITE_DATA_DIR"])
    job = Api(again, again.token("alice")).finished(pk)
    assert (job["state"], job["attempt"], len(job["images"])) == ("succeeded", 2, 4)


def test_a_worker_killed_while_idle_does_not_stop_the_queue(studio: Studio, api: Api) -> None:
    api.draw("a red circle", width=64, height=64)
    studio.worker_of("bf16").kill()
    assert api.draw("a red circle", width=64, height=64)


def test_workers_run_apart_from_the_pages_on_the_devices_they_are_told(start: Start) -> None:
    studio = start("--fp4", "cpu", **ADMIN)
    api = Api(studio, studio.token("alice"))
    assert api.draw("a red circle", width=64, height=64, engine="fp4")
    pk = api.submit("a red circle", width=64, height=64, engine="bf16")["id"]
    assert api.job(pk)["state"] == "queued"
    command = [*MANAGE, "workers", *BF16]
    with subprocess.Popen(command, env=studio.environment, stdout=subprocess.PIPE, text=True) as workers:
        assert api.finished(pk)["state"] == "succeeded"
        workers.send_signal(signal.SIGTERM)
        said, _ = workers.communicate(timeout=60)
    assert (workers.returncode, "bf16 on" in said, said.endswith("Stopped.\n")) == (0, True, True)


def test_a_device_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [*MANAGE, "workers", "--fp4", "7"],
        env={**os.environ, "FLUXSITE_DATA_DIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "There is no device 7. There are:" in done.stderr


# One start, for other machines, on a port that is taken, without users ----------------------------------


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", free_port())) as other:
        yield int(other.getsockname()[1])


@pytest.fixture(scope="module")
def open_studio(tmp_path_factory: pytest.TempPathFactory, taken_port: int) -> Iterator[Studio]:
    data = tmp_path_factory.mktemp("open") / "data"
    studio = Studio(data, "--host", "0.0.0.0", "--port", str(taken_port), *BF16)  # noqa: S104
    yield studio
    studio.kill()


@pytest.mark.xdist_group("open_studio")
def test_a_taken_port_is_left_alone_and_the_next_one_used(open_studio: Studio, taken_port: int) -> None:
    port = urlsplit(open_studio.url).port
    assert port in range(taken_port + 1, taken_port + 10)
    assert f"Port {taken_port} is taken by another program; using {port}." in open_studio.log.read_text()
    assert requests.get(f"{open_studio.url}/healthz", timeout=30).text == "ok\n"


@pytest.mark.xdist_group("open_studio")
def test_for_other_machines_it_answers_to_its_name_and_to_no_other(open_studio: Studio) -> None:
    own = urlsplit(open_studio.url).netloc
    assert own.rpartition(":")[0] in own_addresses()
    for host, status in ((socket.gethostname(), 200), (own, 200), ("elsewhere.example", 400)):
        answer = requests.get(f"{open_studio.url}/login/", headers={"Host": host}, timeout=30)
        assert answer.status_code == status


@pytest.mark.xdist_group("open_studio")
def test_without_users_it_prints_a_set_up_link_once(open_studio: Studio) -> None:
    link = open_studio.said(r"(http://\S+:\d+/setup/\S+)")
    assert requests.get(link, timeout=30).status_code == 200


@pytest.mark.xdist_group("open_studio")
@pytest.mark.parametrize("password", ["short"])
def test_a_weak_password_in_the_environment_is_named(open_studio: Studio, password: str) -> None:
    administrator = {"FLUXSITE_ADMIN_USER": "alice", "FLUXSITE_ADMIN_PASSWORD": password}
    environment = {**open_studio.environment, **administrator}
    done = subprocess.run([*MANAGE, "up"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FLUXSITE_ADMIN_PASSWORD: 5 characters. Use 12 or more" in done.stderr


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
