"""That a cluster hears of a job at once: a real second connection, on either database."""

import errno
import threading

import pytest
from django.db import connection, connections
from inotify_simple import INotify

from accounts.models import User
from generation.wake_up import WakeUps
from tests.conftest import submit

pytestmark = pytest.mark.django_db(transaction=True)


# A busy machine may take its time; a test that fails waits 30 s.
LOOKS = 120


def test_a_submitted_job_is_heard_of() -> None:
    alice = User.objects.create_user("alice")
    wake_ups = WakeUps()
    while wake_ups.wait(0.05):
        """What was written before."""

    def submit_elsewhere() -> None:
        submit(alice)
        connections.close_all()

    thread = threading.Thread(target=submit_elsewhere)
    thread.start()
    try:
        assert any(wake_ups.wait(0.25) for _ in range(LOOKS)), "nothing was heard"
    finally:
        thread.join()
        wake_ups.close()


def test_silence_is_silence() -> None:
    wake_ups = WakeUps()
    wake_ups.wait(0.05)
    assert not wake_ups.wait(0.05)
    wake_ups.close()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL tells by itself")
def test_where_the_directory_cannot_be_watched_it_asks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*args: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(INotify, "add_watch", refused)
    test_a_submitted_job_is_heard_of()
    assert "cannot be watched; asking instead" in caplog.text
