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


def test_a_misspelt_variable_is_said_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXSITE_MODLE", "x")
    monkeypatch.setenv("FLUXSITE_COLOUR_OF_THE_SKY", "x")
    hints = {message.msg: message.hint for message in run_checks() if message.id == "fluxsite.W004"}
    assert "FLUXSITE_MODEL?" in str(hints["Nothing reads FLUXSITE_MODLE."])
    assert hints["Nothing reads FLUXSITE_COLOUR_OF_THE_SKY."] == "See docs/settings.md."
