"""At which addresses a studio answers that listens on all of them."""

import socket
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.test import Client, override_settings

from accounts.models import User
from fluxsite import listen


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
    names = listen.names_of(host)
    assert names == {
        "atelier", "atelier.studio.example", "192.168.1.20", "[fd00::20]", "[fe80::1]", "127.0.0.1", "[::1]",
    }  # fmt: skip
    assert "*" not in names
    with override_settings(ALLOWED_HOSTS=["studio.example"]):
        listen.allow_names_of([(host, 8000), "/run/fluxsite.sock"])
        assert set(settings.ALLOWED_HOSTS) == {*names, "studio.example"}
        listen.allow_names_of([(host, 8000)])
        assert len(settings.ALLOWED_HOSTS) == len(names) + 1
        for typed in ("192.168.1.20:8000", "[fd00::20]:8000", "Atelier", "atelier.studio.example:8000"):
            assert Client().get("/login/", headers={"Host": typed}).status_code == 200, typed
        page = Client().get("/login/", headers={"Host": "evil.example"})
    assert page.status_code == 400
    assert "FLUXSITE_ALLOWED_HOSTS" in page.content.decode()


@pytest.mark.usefixtures("interfaces")
def test_the_address_to_type_is_that_of_the_lan() -> None:
    assert listen.own_addresses()[0] == "192.168.1.20"
    assert listen.address_to_type("0.0.0.0") == "192.168.1.20"  # noqa: S104


def test_one_address_is_only_itself() -> None:
    assert listen.names_of("192.168.1.20") == {"192.168.1.20"}
    assert listen.names_of("fd00::20") == {"[fd00::20]"}


def test_the_page_of_a_wrong_host_names_the_setting(db: None) -> None:
    page = Client().get("/login/", headers={"Host": "<b>evil</b>"}).content.decode()
    assert "FLUXSITE_ALLOWED_HOSTS" in page
    assert "<b>evil" not in page


@pytest.mark.usefixtures("interfaces")
def test_a_bridge_of_containers_is_not_the_address_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "own_addresses", lambda: ["172.17.0.1", "192.168.1.20", "[fd00::20]"])
    monkeypatch.setattr(listen, "_address_towards_others", lambda: "192.168.1.20")
    assert listen.address_to_type("0.0.0.0") == "192.168.1.20"  # noqa: S104


def test_a_machine_of_ipv6_only_is_not_told_to_type_it_where_ipv4_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listen, "own_addresses", lambda: ["[fd00::20]", "[::1]"])
    assert listen.address_to_type("::") == "[fd00::20]"
    assert listen.address_to_type("0.0.0.0") == "localhost"  # noqa: S104


def test_forms_work_at_the_address_of_the_lan(alice: User) -> None:
    with override_settings(ALLOWED_HOSTS=["192.168.1.20"]):
        client = Client(enforce_csrf_checks=True, headers={"Host": "192.168.1.20:8000"})
        client.get("/login/")
        said = {"username": "alice", "password": "correct horse battery"}
        said["csrfmiddlewaretoken"] = client.cookies["csrftoken"].value
        origins = {"http://192.168.1.20:8000": 302, "http://192.168.1.21:8000": 403}
        for origin, status in reversed(origins.items()):
            page = client.post("/login/", said, headers={"Origin": origin})
            assert page.status_code == status, origin
