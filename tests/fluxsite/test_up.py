"""At which addresses a studio answers that listens on all of them."""

import socket
from typing import Any

import psutil
import pytest
from django.test import Client, override_settings

from fluxsite.management.commands import up


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a LAN, a link-local address with a scope, and loopback."""

    def address(family: Any, text: str) -> Any:
        return psutil._ntuples.snicaddr(family, text, None, None, None)

    found = {
        "lo": [address(socket.AF_INET, "127.0.0.1"), address(socket.AF_INET6, "::1")],
        "eth0": [
            address(socket.AF_INET, "192.168.1.20"),
            address(socket.AF_INET6, "fe80::1%eth0"),
            address(socket.AF_INET6, "fd00::20"),
            address(psutil.AF_LINK, "00:00:5e:00:53:01"),
        ],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    monkeypatch.setattr(socket, "gethostname", lambda: "Atelier")
    monkeypatch.setattr(socket, "getfqdn", lambda: "atelier.studio.example")


@pytest.mark.usefixtures("interfaces")
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_whoever_listens_everywhere_is_reachable_everywhere(db: None, host: str) -> None:
    names = up._names_of(host)
    assert names == {
        "atelier", "atelier.studio.example", "192.168.1.20", "[fd00::20]", "[fe80::1]", "127.0.0.1", "[::1]",
    }  # fmt: skip
    assert "*" not in names
    with override_settings(ALLOWED_HOSTS=list(names)):
        for typed in ("192.168.1.20:8000", "[fd00::20]:8000", "Atelier", "atelier.studio.example:8000"):
            assert Client().get("/login/", headers={"Host": typed}).status_code == 200, typed
        page = Client().get("/login/", headers={"Host": "evil.example"})
    assert page.status_code == 400
    assert "FLUXSITE_ALLOWED_HOSTS" in page.content.decode()


@pytest.mark.usefixtures("interfaces")
def test_the_address_to_type_is_that_of_the_lan() -> None:
    assert up.own_addresses()[0] == "192.168.1.20"


def test_one_address_is_only_itself() -> None:
    assert up._names_of("192.168.1.20") == {"192.168.1.20"}
    assert up._names_of("fd00::20") == {"[fd00::20]"}


def test_the_page_of_a_wrong_host_names_the_setting(db: None) -> None:
    page = Client().get("/login/", headers={"Host": "<b>evil</b>"}).content.decode()
    assert "FLUXSITE_ALLOWED_HOSTS" in page
    assert "<b>evil" not in page
