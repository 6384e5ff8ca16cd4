"""The socket that the pages are served on, and the addresses and names at which it is reached."""

import errno
import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any

import psutil
from django.conf import settings

# What stands for all addresses of a machine.
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 (compared)


def listen(host: str, port: int, tries: int = 50) -> socket.socket:
    """Bind ``port``, or the next one that is free, and listen. It is never taken from whoever has it.

    Raises OSError when ``host`` is not an address of this machine or ``tries`` ports are all taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + tries):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(512)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return listener
    raise OSError(f"ports {port} to {port + tries - 1} are all taken")


def allow_names_of(addresses: Iterable[Any]) -> None:
    """Let the site answer at the addresses of its sockets, whatever started it and chose them."""
    hosts = [address[0] for address in addresses if isinstance(address, tuple)]  # not of a socket file
    names = set().union(*map(names_of, hosts)) - set(settings.ALLOWED_HOSTS)
    settings.ALLOWED_HOSTS += sorted(names)


def names_of(host: str) -> set[str]:
    """What people may type to reach ``host``: for all addresses, every name and address of this machine."""
    if host not in EVERYWHERE:
        return {_in_url(host)}
    names = {socket.gethostname().lower(), socket.getfqdn().lower()}
    return {*own_addresses(), *names} - {""}


def address_to_type(host: str) -> str:
    """Where others reach ``host``: for all addresses, that of the interface that leads out if one does."""
    if host not in EVERYWHERE:
        return _in_url(host)
    own = [address for address in own_addresses() if host == "::" or not address.startswith("[")]
    outward = _address_towards_others()
    return outward if outward in own else next(iter(own), "localhost")


def own_addresses() -> list[str]:
    """The addresses of this machine's interfaces as a browser takes them, those of a LAN first."""
    found = [address for interface in psutil.net_if_addrs().values() for address in interface]
    plain = [ip_address(one.address.partition("%")[0]) for one in found if one.family in (AF_INET, AF_INET6)]
    ordered = sorted(plain, key=lambda one: (one.is_loopback, one.is_link_local, one.version, int(one)))
    return [_in_url(str(one)) for one in ordered]


def _address_towards_others() -> str:
    """Bridges of containers have addresses, too; the route out tells them apart. No packet is sent."""
    with suppress(OSError), socket.socket(AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return ""


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
