import threading

import pytest

from bench.scale import _servers_time
from tests.postgresql import MISSING, Server, programs


@pytest.mark.skipif(programs() is None, reason=MISSING)
def test_a_run_that_fails_leaves_nothing_that_keeps_the_bench_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setenv("FLUXSITE_DATABASE_URL", server.url("postgres"))
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError), _servers_time():
        raise ZeroDivisionError
    assert set(threading.enumerate()) == before
    server.remove()
