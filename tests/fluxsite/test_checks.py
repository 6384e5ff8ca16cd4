"""Settings that cannot work are named, with their remedy."""

from typing import Any

import pytest

from fluxsite import checks


def test_good_settings_pass() -> None:
    assert checks.model_is_there(None) == []
    assert checks.lease_outlasts_a_load(None) == []


@pytest.mark.parametrize("model", ["/nowhere", "not-a-hub-id", "a/b/c"])
def test_a_missing_model_is_named(settings: Any, model: str) -> None:
    settings.FLUXSITE_MODEL = model
    (error,) = checks.model_is_there(None)
    assert error.id == "fluxsite.E001"
    assert model in error.msg
    assert error.hint
    assert "black-forest-labs/FLUX.1-schnell" in error.hint


def test_a_lease_too_short_is_named(settings: Any) -> None:
    settings.FLUXSITE_LEASE_SECONDS = 2
    (error,) = checks.lease_outlasts_a_load(None)
    assert error.id == "fluxsite.E002"
