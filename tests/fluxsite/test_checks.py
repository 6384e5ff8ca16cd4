"""Settings that cannot work are named, with their remedy."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from fluxsite import checks


def test_good_settings_pass() -> None:
    assert checks.model_is_there(None) == []
    assert checks.lease_outlasts_a_load(None) == []
    assert checks.nunchaku_is_the_engine(None) == []


@pytest.mark.parametrize("model", ["/nowhere", "not-a-hub-id", "a/b/c"])
def test_a_missing_model_is_named(settings: Any, model: str) -> None:
    settings.FLUXSITE_MODEL = model
    (error,) = checks.model_is_there(None)
    assert error.id == "fluxsite.E001"
    assert model in error.msg
    assert error.hint
    assert "black-forest-labs/FLUX.1-schnell" in error.hint


def test_a_shared_model_may_be_fetched_later(settings: Any, tmp_path: Path) -> None:
    settings.SHARED_MODEL, settings.FLUXSITE_MODEL = "demo", str(tmp_path / "demo")
    assert checks.model_is_there(None) == []


def test_a_lease_too_short_is_named(settings: Any) -> None:
    settings.FLUXSITE_LEASE_SECONDS = 2
    (error,) = checks.lease_outlasts_a_load(None)
    assert error.id == "fluxsite.E002"


@pytest.mark.django_db  # once on each database
def test_a_shared_store_wants_postgresql(settings: Any) -> None:
    assert checks.a_shared_store_has_a_shared_database(None) == []
    settings.FLUXSITE_STORAGE_URL = "s3://key:secret@host/bucket"
    found = checks.a_shared_store_has_a_shared_database(None)
    assert [one.id for one in found] == (["fluxsite.W005"] if connection.vendor == "sqlite" else [])
    assert all("FLUXSITE_DATABASE_URL" in str(one.hint) for one in found)


@pytest.fixture
def nunchaku(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name; importing it fails the test."""
    package = tmp_path / "nunchaku"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_the_package_that_is_only_called_nunchaku_is_named_with_its_remedy(nunchaku: Path) -> None:
    (warning,) = checks.nunchaku_is_the_engine(None)
    assert warning.id == "fluxsite.W003"
    assert "piecewise-linear" in warning.msg
    assert warning.hint
    assert "pip uninstall nunchaku" in warning.hint
    assert "requirements-fp4.txt" in warning.hint


def test_the_real_nunchaku_is_welcome(nunchaku: Path) -> None:
    transformers = nunchaku / "models" / "transformers"
    transformers.mkdir(parents=True)
    (transformers / "transformer_flux.py").touch()
    assert checks.nunchaku_is_the_engine(None) == []


def test_a_database_that_release_0_1_put_elsewhere_is_found(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VAR_DIR = tmp_path / "disk #1" / "var"
    monkeypatch.setitem(connection.settings_dict, "NAME", str(settings.VAR_DIR / "fluxsite.sqlite3"))
    assert checks.no_database_is_left_elsewhere(None) == []
    (tmp_path / "disk ").write_text("the database of 0.1")
    (warning,) = checks.no_database_is_left_elsewhere(None)
    assert f"'{tmp_path}/disk '" in str(warning.hint)


@pytest.mark.parametrize("url", ["https://studio.example", "http://10.0.0.7:8000", "http://[::1]:8000"])
def test_an_address_of_a_studio_passes(settings: Any, url: str) -> None:
    settings.FLUXSITE_URL = url
    assert checks.the_address_is_one(None) == []


@pytest.mark.parametrize(
    "url",
    ["studio.example", "studio.example:8000", "https://studio.example/flux", "ftp://studio.example", "https://",
     "https://studio.example:port", "https://a@studio.example", "https://studio.example?x", ""],
)  # fmt: skip
def test_an_address_that_would_have_no_effect_is_named(settings: Any, url: str) -> None:
    settings.FLUXSITE_URL = url
    (error,) = checks.the_address_is_one(None)
    assert error.id == "fluxsite.E007"
    assert "https://studio.example" in str(error.hint)
