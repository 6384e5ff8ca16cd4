"""The page of settings says what the code does."""

from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks

from fluxsite import settings_reference


def test_the_page_is_as_the_code_is() -> None:
    page = Path(django_settings.BASE_DIR) / "docs" / "settings.md"
    assert page.read_text() == settings_reference.page(), (
        "run manage.py settings_reference > docs/settings.md"
    )


def test_every_setting_has_a_meaning_and_a_section() -> None:
    found = settings_reference.settings()
    assert {"FLUXSITE_MODEL", "FLUXSITE_DATABASE_URL", "FLUXSITE_LOG_LEVEL"} <= {each.name for each in found}
    assert [each.name for each in found if not each.meaning or not each.section] == []


def test_every_default_is_written_as_a_person_would_write_it() -> None:
    found = settings_reference.settings()
    unwritten = [each.name for each in found if not each.default]
    assert unwritten == [], "end the comment with “Default: …” where a default is an expression"
    defaults = {each.name: each.default for each in found}
    assert defaults["FLUXSITE_DATA_DIR"] == "the directory of the code"
    assert defaults["FLUXSITE_OPENAI_ALIASES"].startswith("`flux-schnell,gpt-image-*,")
    assert not any("_DIR" in default or "EngineConfig" in default for default in defaults.values())


def test_a_misspelt_variable_is_said_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXSITE_MODLE", "x")
    monkeypatch.setenv("FLUXSITE_COLOUR_OF_THE_SKY", "x")
    hints = {message.msg: message.hint for message in run_checks() if message.id == "fluxsite.W004"}
    assert "FLUXSITE_MODEL?" in str(hints["Nothing reads FLUXSITE_MODLE."])
    assert hints["Nothing reads FLUXSITE_COLOUR_OF_THE_SKY."] == "See docs/settings.md."
