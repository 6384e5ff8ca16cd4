"""A directory may have any name: a path is nowhere read as a URL, a pattern or a line of a shell."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from operations import services

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["disk #1", "what?", "C++", "50%20x", "a b'c\"d", "$HOME", "ünï", "100%", "[a]*", "back\\slash"]


CODE = (
    "import django; django.setup(); from django.db import connection;"
    "connection.cursor().execute('CREATE TABLE here (id integer)')"
)


@pytest.mark.parametrize("name", NAMES)
def test_the_database_of_a_data_directory_is_in_it(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env={
            "PATH": os.environ["PATH"],
            "FLUXSITE_DATA_DIR": str(data),
            "DJANGO_SETTINGS_MODULE": "fluxsite.settings",
        },
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with closing(sqlite3.connect(data / "var" / "fluxsite.sqlite3")) as database:
        assert database.execute("SELECT COUNT(*) FROM here").fetchone() == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_a_data_directory_is_read_back_from_the_settings_of_the_services(name: str) -> None:
    text = services.environment_file({"FLUXSITE_DATA_DIR": f"/srv/{name}"})
    assert services.data_directory(text) == f"/srv/{name}"


def test_a_path_with_a_blank_is_one_path_to_systemd() -> None:
    where = services.Installation.of_system(Path("/srv/a b"), Path('/srv/disk "1" 100%'), "python", "nobody")
    unit = services.units(where, [], ["serve"])[services.WEB]
    assert 'ReadWritePaths="/srv/disk \\"1\\" 100%%/media"' in unit
    assert "WorkingDirectory=/srv/a b\n" in unit
