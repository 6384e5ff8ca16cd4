"""``manage.py doctor``: each thing that is wrong has its remedy."""

import io
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as product
from django.contrib.staticfiles import storage as static
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from fluxsite.static_files import HashedStaticFiles
from gpu.models import Worker
from operations import diagnosis


def doctor() -> str:
    said = io.StringIO()
    try:
        call_command("doctor", stdout=said)
    except CommandError as error:
        said.write(str(error))
    return said.getvalue()


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch, media: Path) -> None:
    media.mkdir()
    for name in [name for name in os.environ if name.startswith("FLUXSITE_")]:
        monkeypatch.delenv(name)


def test_a_studio_in_order_is_said_to_be(db: None) -> None:
    Worker.start("atelier-01", "cpu", "bf16", 1)
    said = doctor()
    assert said.endswith("All of it is in order.\n"), said
    assert "WRONG" not in said


def test_what_is_wrong_comes_with_its_remedy_and_fails(db: None) -> None:
    said = doctor()
    assert "WRONG  workers        No worker is there: jobs wait." in said
    assert "→ Start what is missing: manage.py up" in said
    assert said.endswith("To be looked at: workers.")


def test_without_a_database_the_rest_is_looked_at(db: None) -> None:
    def away(*args: object) -> None:
        raise OperationalError("no route to host")

    with connection.execute_wrapper(away):
        said = doctor()
    assert "WRONG  database       It does not answer: no route to host" in said
    assert "ok     files" in said


def test_a_migration_that_was_not_applied_is_named(db: None) -> None:
    count, _ = MigrationRecorder.Migration.objects.filter(app="operations").delete()
    assert diagnosis.migrations().detail == f"{count} are missing, first operations.0001_initial."


def test_a_clock_that_was_set_back_is_noticed(db: None) -> None:
    Worker.start("atelier-01", "cpu", "bf16", 1)
    assert diagnosis.clock().ok
    Worker.objects.update(heartbeat=timezone.now() + timedelta(minutes=10))
    finding = diagnosis.clock()
    assert not finding.ok
    assert "timedatectl" in finding.remedy


def test_a_key_that_others_can_read_is_noticed() -> None:
    key = product.VAR_DIR / "secret_key"
    assert diagnosis.files().ok
    key.chmod(0o644)
    try:
        finding = diagnosis.files()
    finally:
        key.chmod(0o600)
    assert "can be read by others" in finding.detail
    assert "start the studio once" in finding.remedy


def test_what_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != settings.MEDIA_ROOT)
    assert f"{settings.MEDIA_ROOT} cannot be written" in diagnosis.files().detail


def test_a_wrong_name_of_a_setting_is_told_with_the_nearest(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXSITE_DATABSE_URL", "x")
    said = doctor()
    assert "WRONG  fluxsite.W004  Nothing reads FLUXSITE_DATABSE_URL." in said
    assert "→ Is it FLUXSITE_DATABASE_URL?" in said


def test_static_files_that_changed_are_noticed(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STATIC_ROOT = tmp_path
    monkeypatch.setattr(diagnosis, "staticfiles_storage", HashedStaticFiles(tmp_path))
    assert "never collected" in diagnosis.static_files().detail
    sources = dict(diagnosis._sources())
    paths = ", ".join(f'"{name}": "{name}"' for name in sources)
    (tmp_path / "staticfiles.json").write_text('{"paths": {' + paths + "}}")
    assert diagnosis.static_files().ok
    os.utime(tmp_path / "staticfiles.json", (1, 1))
    assert "were not collected, such as" in diagnosis.static_files().detail
    assert static.staticfiles_storage


def test_a_system_check_is_told_with_its_hint(db: None, settings: Any) -> None:
    settings.FLUXSITE_LEASE_SECONDS = 1
    said = doctor()
    assert "WRONG  fluxsite.E002" in said
    assert "→ Use 60, or at least 3." in said


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite counts no connections")
def test_few_connections_left_are_said(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ok     connections" in doctor()
    monkeypatch.setattr(diagnosis, "CONNECTIONS_USED", 0.0)
    assert "of PostgreSQL's 200 are used" in doctor()
    assert "Make max_connections larger" in doctor()
