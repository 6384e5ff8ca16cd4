"""Which rule holds: the administrators', else the settings', else the default."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from operations import checks, policy
from operations.models import Kind, Rule
from operations.policy import DEFAULTS, Limits


def test_without_settings_the_defaults_hold() -> None:
    assert policy.of_settings("") == DEFAULTS
    assert set(DEFAULTS) == set(Kind)
    assert [kind.value for kind, limits in DEFAULTS.items() if not limits.on] == ["pictures", "jobs"]


def test_settings_change_what_they_name() -> None:
    limits = policy.of_settings("trash=7d, logs=14d/200MB,tokens=off,pictures=50000MB")
    assert limits[Kind.TRASH] == Limits(days=7)
    assert limits[Kind.LOGS] == Limits(days=14, megabytes=200)
    assert limits[Kind.PICTURES] == Limits(megabytes=50000)
    assert not limits[Kind.TOKENS].on
    assert limits[Kind.SHARES] == DEFAULTS[Kind.SHARES]


@pytest.mark.parametrize("text", ["trash", "trash=", "loras=1d", "trash=30", "trash=-1d", "trash=1d;logs=2d"])
def test_what_is_no_rule_is_refused_with_what_is_allowed(text: str, settings: object) -> None:
    with pytest.raises(ImproperlyConfigured, match="trash=30d, logs=14d/200MB, pictures=off"):
        policy.of_settings(text)
    settings.FLUXSITE_CLEANUP = text  # type: ignore[attr-defined]
    (error,) = checks.policy_can_be_read(None)
    assert error.id == "operations.E001"


def test_the_administrators_rule_comes_first(db: None, settings: object) -> None:
    settings.FLUXSITE_CLEANUP = "trash=7d"  # type: ignore[attr-defined]
    assert policy.now_in_force()[Kind.TRASH] == Limits(days=7)
    rule = Rule.objects.create(kind=Kind.TRASH, on=False)
    assert not policy.now_in_force()[Kind.TRASH].on
    rule.delete()
    assert policy.now_in_force()[Kind.TRASH] == Limits(days=7)
    assert checks.policy_can_be_read(None) == []
