"""The port people asked for, or the next one that is free."""

import socket

import pytest

from fluxsite.listen import listen


def test_it_takes_the_next_port_when_one_is_taken() -> None:
    with listen("127.0.0.1", 18_431) as first, listen("127.0.0.1", first.getsockname()[1]) as second:
        assert second.getsockname()[1] > first.getsockname()[1]


def test_it_listens_at_once() -> None:
    with listen("127.0.0.1", 18_431) as listener, socket.create_connection(listener.getsockname()):
        pass


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        listen("192.0.2.1", 18_431)
