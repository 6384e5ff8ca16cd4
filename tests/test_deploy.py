"""What we ship for other people's machines says what the code does. No Docker engine has run it here."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from fluxsite.settings_reference import settings
from operations.services import LONGEST_JOB

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
OURS = {setting.name for setting in settings()}


def test_the_files_name_only_settings_that_there_are() -> None:
    for path in DEPLOY.iterdir():
        assert set(re.findall(r"FLUXSITE_\w+", path.read_text())) <= OURS, path.name


def test_compose_has_a_studio_with_and_without_gpus() -> None:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {name: service["profiles"] for name, service in services.items()} == {
        "demo": ["demo"],
        "gpu": ["gpu"],
    }
    for service in services.values():
        assert service["ports"] == ["127.0.0.1:8000:8000"]
        assert f"{service['stop_grace_period']}in" == LONGEST_JOB
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_what_the_image_copies_and_starts_is_there() -> None:
    words = re.findall(r'^(?:COPY|ENTRYPOINT) \[?"?([\w./]+)', (DEPLOY / "Dockerfile").read_text(), re.M)
    assert words == ["requirements.txt", ".", "deploy/entrypoint.sh"]
    for word in words:
        assert (DEPLOY.parent / word).exists()
    assert (DEPLOY / "entrypoint.sh").stat().st_mode & 0o111


def test_the_image_has_what_backups_of_its_databases_need() -> None:
    assert "postgresql-client" in (DEPLOY / "Dockerfile").read_text()


def test_the_entrypoint_prepares_a_studio_and_runs_its_command(tmp_path: Path) -> None:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FLUXSITE_DATA_DIR": str(tmp_path),
        "FLUXSITE_ADMIN_USER": "ana",
        "FLUXSITE_ADMIN_PASSWORD": "correct horse battery",
    }
    command = [str(DEPLOY / "entrypoint.sh"), "verify"]
    run = subprocess.run(
        command, cwd=DEPLOY.parent, env=environment, check=True, capture_output=True, text=True
    )
    assert run.stdout.startswith("Made the first administrator, ana.\n0 missing")
    assert any((tmp_path / "var" / "static").iterdir())
