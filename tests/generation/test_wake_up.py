"""That a cluster hears of a job at once: a real second connection, on either database."""

import errno
import threading
import time

import pytest
from django.db import connection, connections
from inotify_simple import INotify

from accounts.models import User
from generation.wake_up import WakeUps
from tests.conftest import submit

pytestmark = pytest.mark.django_db(transaction=True)


def heard_after(wake_ups: WakeUps, seconds: float = 5.0) -> float:
    """Seconds until something was heard."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if wake_ups.wait(0.25):
            return time.monotonic() - start
    raise AssertionError("nothing was heard")


def test_a_submitted_job_is_heard_of() -> None:
    alice = User.objects.create_user("alice")
    wake_ups = WakeUps()
    while wake_ups.wait(0.05):
        """What was written before."""

    def later() -> None:
        time.sleep(0.3)
        submit(alice)
        connections.close_all()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        assert 0.25 < heard_after(wake_ups) < 3
    finally:
        thread.join()
        wake_ups.close()


def test_silence_is_silence() -> None:
    wake_ups = WakeUps()
    wake_ups.wait(0.05)
    start = time.monotonic()
    assert not wake_ups.wait(0.05)
    assert time.monotonic() - start < 1
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
