"""Backups made while people draw, delete and upload, and a studio that begins with nothing else."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings

from operations import backup
from tests.e2e.studio import MANAGE, PASSWORD, Api, Studio, new_studio, wait_for
from tests.loras.files import demo_lora, safetensors

ADMIN = {"FLUXSITE_ADMIN_USER": "alice", "FLUXSITE_ADMIN_PASSWORD": PASSWORD}
# Whose job was running when the copy was made is waited for as long.
LEASE = {"FLUXSITE_LEASE_SECONDS": "3"}
BF16 = ("--bf16", "cpu")
SMALL = {"width": 64, "height": 64, "engine": "bf16"}
PEOPLE = 3
LORA = Path(settings.BASE_DIR) / "demo" / "loras" / "night.safetensors"
ROWS = """
import json
from generation.models import Image, Job
from loras.models import Lora
jobs = {str(pk): state for pk, state in Job.objects.exclude(owner=None).values_list("pk", "state")}
images = {str(pk): sha256 for pk, sha256 in Image.objects.exclude(owner=None).values_list("pk", "sha256")}
print(json.dumps({"jobs": jobs, "images": images, "loras": [*Lora.objects.values_list("slug", flat=True)]}))
"""
ENDS = """
import json
from accounts.models import UsageEntry
ended = UsageEntry.objects.filter(outcome="succeeded").values_list("job", flat=True)
print(json.dumps([str(job) for job in ended]))
"""


def environment_of(data: Path, database: str, request: pytest.FixtureRequest) -> dict[str, str]:
    environment = {**LEASE, "FLUXSITE_DATA_DIR": str(data)}
    if database == "postgresql":
        environment["FLUXSITE_DATABASE_URL"] = request.getfixturevalue("postgresql").new_database()
    return environment


def manage(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run([*MANAGE, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@contextmanager
def load(studio: Studio, token: str) -> Iterator[list[str]]:
    """Until the block ends each of some people asks for a picture, waits for it and deletes every other one.

    Gives the jobs that are over.
    """
    over, done = threading.Event(), list[str]()

    def draw_and_delete(person: int) -> None:
        api = Api(studio, token)
        api.session.headers["Prefer"] = "wait=60"
        number = 0
        while not over.is_set():
            job = api.submit(f"a red circle {person} {number}", **SMALL)
            assert job["state"] == "succeeded", job
            if number % 2:
                answer = api.session.delete(f"{api.url}/images/{job['images'][0]['id']}/")
                assert answer.status_code == 204, answer.text
            done.append(job["id"])
            number += 1

    with ThreadPoolExecutor(PEOPLE) as people:
        working = [people.submit(draw_and_delete, person) for person in range(PEOPLE)]
        try:
            yield done
        finally:
            over.set()
    for each in working:
        each.result()


def add_lora(api: Api, name: str, content: bytes) -> str:
    files = {"file": (f"{name}.safetensors", content)}
    answer = api.session.post(f"{api.url}/loras/", data={"name": name}, files=files)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["slug"])


def logged_in(studio: Studio) -> requests.Session:
    session = requests.Session()
    form = session.get(f"{studio.url}/login/").text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    assert token
    person = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
    session.post(f"{studio.url}/login/", data=person)
    assert who_is_here(session, studio) == "alice"
    return session


def who_is_here(session: requests.Session, studio: Studio) -> str:
    answer = session.get(f"{studio.url}/api/v1/me/")
    return str(answer.json()["username"]) if answer.ok else ""


def age(data: Path) -> None:
    """Files without rows count once they are an hour old."""
    for path in (data / "media").rglob("*"):
        os.utime(path, (0, 0))


def rows_of(environment: dict[str, str]) -> dict[str, Any]:
    return dict(json.loads(manage(environment, "shell", "--no-imports", "-c", ROWS)))


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_a_backup_under_load_brings_all_of_it_back(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    backups = tmp_path / "backups"
    old = Studio(tmp_path / "old", *BF16, **ADMIN, **environment_of(tmp_path / "old", database, request))
    new: Studio | None = None
    try:
        token = old.token("alice")
        session = logged_in(old)
        # Nobody draws it before the backup is restored.
        waiting = Api(old, token).submit("a blue star", **{**SMALL, "engine": "fp4"})["id"]
        loras, second = back_up_twice(old, token, backups)
        old.kill()

        environment = {**old.environment, **environment_of(tmp_path / "new", database, request)}
        # Pages need them, and collecting them anew takes seconds.
        shutil.copytree(new_studio() / "var" / "static", tmp_path / "new" / "var" / "static")
        assert f"Restored {second.name}" in manage(environment, "restore", str(backups))
        age(tmp_path / "new")
        assert manage(environment, "verify", "--hash") == "0 missing, 0 without a row, 0 changed."
        rows = rows_of(environment)
        assert set(loras) <= set(rows["loras"])
        assert rows["jobs"][waiting] == "queued"

        new = Studio(tmp_path / "new", *BF16, "--fp4", "cpu", **environment)
        logged_in(new)
        assert who_is_here(session, new) == "alice"
        goes_on(new, Api(new, token), rows)
    finally:
        old.kill()
        if new:
            new.kill()


def back_up_twice(studio: Studio, token: str, backups: Path) -> tuple[list[str], Path]:
    """The LoRAs that were added, and the second backup."""
    api = Api(studio, token)
    with load(studio, token) as done:
        wait_for(lambda: len(done) > 2 * PEOPLE)
        making = subprocess.Popen([*MANAGE, "backup", str(backups)], env=studio.environment)
        loras = [add_lora(api, "mine", safetensors(demo_lora())), add_lora(api, "again", LORA.read_bytes())]
        assert making.wait() == 0
        before = len(done)
        wait_for(lambda: len(done) > before + PEOPLE)
        studio.manage("backup", str(backups))
    first, second = sorted(path.parent for path in backups.glob("[0-9]*/facts.json"))
    facts = backup.facts_of(second)
    assert 0 < facts.copied < facts.files
    assert facts.damaged == backup.facts_of(first).damaged == []
    return loras, second


def goes_on(studio: Studio, api: Api, rows: dict[str, Any]) -> None:
    """Its pictures are there, and what was not over when the copy was made ends, once."""
    unfinished = [pk for pk, state in rows["jobs"].items() if state in ("queued", "running")]
    assert set(rows["jobs"].values()) <= {"queued", "running", "succeeded"}
    for pk in unfinished:
        job = api.finished(pk)
        assert (job["state"], len(job["images"])) == ("succeeded", 1), job
    ended = json.loads(studio.shell(ENDS))
    assert len(ended) == len(set(ended))
    assert set(rows["jobs"]) <= set(ended)
    for pk, sha256 in rows["images"].items():
        assert api.session.get(f"{api.url}/images/{pk}/").json()["sha256"] == sha256
        assert api.session.get(f"{api.url}/images/{pk}/file/").ok
