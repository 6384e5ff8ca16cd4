"""What ./run installs; how it starts a studio is tested by tests/e2e."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Stands in for the virtual environment's Python, which would install for minutes: it notes what it is told.
PYTHON = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/told"\n'


@pytest.fixture
def program(tmp_path: Path) -> Path:
    for name in ("run", "environment.sh", "requirements.txt", "requirements-fp4.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def told(program: Path, *options: str) -> list[str]:
    """What a run tells Python: the requirements that pip installs, and the commands of manage.py."""
    note = program / ".venv" / "bin" / "told"
    note.unlink(missing_ok=True)
    subprocess.run([program / "run", *options], check=True, capture_output=True)
    lines = note.read_text().splitlines() if note.exists() else []
    return [line.split("-r ")[-1] for line in lines]


def test_it_installs_once_and_starts(program: Path) -> None:
    first = told(program, "--port", "9000")
    assert first[0] == "requirements.txt"
    assert first[-1] == "manage.py up --port 9000"
    assert told(program) == ["manage.py prepare --verbosity 0", "manage.py up"]


def test_it_installs_what_changed_and_nothing_more_where_systemd_starts(program: Path) -> None:
    assert told(program, "--install-only") == ["requirements.txt"]
    assert told(program, "--install-only") == []
    (program / "requirements.txt").write_text("Django==5.2\n")
    assert told(program, "--install-only") == ["requirements.txt"]


def test_a_machine_that_draws_with_nunchaku_stays_one(program: Path) -> None:
    assert told(program, "--nunchaku", "--install-only") == ["requirements-fp4.txt"]
    assert told(program)[-1] == "manage.py up"
    (program / "requirements-fp4.txt").write_text("Django==5.2\n")
    assert told(program, "--install-only") == ["requirements-fp4.txt"]
