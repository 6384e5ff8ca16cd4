"""What we ship for other people's machines says what the code does. No Docker engine has run it here."""

import re
from pathlib import Path
from typing import Any

import yaml

from fluxsite.settings_reference import settings

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
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_what_the_image_copies_and_starts_is_there() -> None:
    words = re.findall(r'^(?:COPY|ENTRYPOINT) \[?"?([\w./]+)', (DEPLOY / "Dockerfile").read_text(), re.M)
    assert words == ["requirements.txt", ".", "deploy/entrypoint.sh"]
    for word in words:
        assert (DEPLOY.parent / word).exists()
    assert (DEPLOY / "entrypoint.sh").stat().st_mode & 0o111
