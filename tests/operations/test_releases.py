"""A database that a newer release migrated is refused, with both versions."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from fluxsite import __version__
from operations import diagnosis, releases
from operations.models import Studio

pytestmark = pytest.mark.django_db


@pytest.fixture
def newer() -> None:
    releases.note("9.1.0")
    MigrationRecorder(connection).record_applied("generation", "0099_of_tomorrow")


@pytest.mark.usefixtures("newer")
def test_prepare_refuses_it() -> None:
    with pytest.raises(CommandError) as refused:
        call_command("prepare", stdout=io.StringIO())
    for said in ("9.1.0", __version__, "generation.0099_of_tomorrow", "restore a backup"):
        assert said in str(refused.value)
    assert Studio.objects.get().release == "9.1.0"


@pytest.mark.usefixtures("newer")
def test_the_doctor_says_so() -> None:
    finding = diagnosis.migrations()
    assert not finding.ok
    assert "9.1.0" in finding.detail
    assert __version__ in finding.detail


def test_this_releases_own_database_is_taken_and_noted() -> None:
    releases.refuse_newer(__version__)
    releases.note(__version__)
    assert Studio.objects.get().release == __version__
    assert diagnosis.migrations().ok
