"""``manage.py up``: the whole studio on this machine, web, workers and housekeeping, until Ctrl-C."""

import socket
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, OutputWrapper

from accounts import setup
from files import shared_models
from fluxsite import server
from fluxsite.listen import EVERYWHERE, address_to_type, listen
from fluxsite.management.commands.workers import add_slot_arguments, cluster, housekeeping, slots_from
from gpu.model_card import ModelCard
from gpu.supervisor import Child, Supervisor
from loras.library import add_demo_loras


class Command(BaseCommand):
    help = (
        "Start the pages and the workers; Ctrl-C finishes the running picture and stops, twice stops at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
        add_slot_arguments(parser)
        parser.add_argument("--no-workers", action="store_true", help="draw on other hosts")
        parser.add_argument(
            "--port", type=int, default=8000, help="port, or the next free one (default 8000)"
        )

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        fetch_card()
        taken = [] if options["no_workers"] else slots_from(options)
        first_rows(self.stdout)
        try:
            listener = listen(host, port)
        except (OSError, OverflowError) as error:
            raise CommandError(f"Cannot listen on {host}:{port}: {error}") from error
        self._announce(listener, port)
        Supervisor([_web(listener), housekeeping(), *(cluster(slot) for slot in taken)]).run()
        self.stdout.write("Stopped.")

    def _announce(self, listener: socket.socket, wanted: int) -> None:
        host, port = listener.getsockname()[:2]
        if port != wanted:
            self.stdout.write(f"Port {wanted} is taken by another program; using {port}.")
        address = f"http://{address_to_type(host)}:{port}"
        self.stdout.write(f"fluxsite is at {address}")
        if host in EVERYWHERE:
            self.stdout.write("It answers at every address and name of this machine.")
        if link := setup.link(address):
            self.stdout.write(f"Make the first administrator (once, within a day): {link}")
        self.stdout.flush()


def _web(listener: socket.socket) -> Child:
    """Gunicorn on the socket that is bound already: no port is lost between looking and binding."""
    command = server.command(f"fd://{listener.fileno()}", settings.FLUXSITE_WAITING_REQUESTS)
    return Child("web", command, pass_fds=(listener.fileno(),))


def fetch_card() -> None:
    """What tells of a shared model; its weights are fetched by whoever draws. Raises CommandError."""
    if settings.SHARED_MODEL:
        try:
            shared_models.fetch(settings.SHARED_MODEL, Path(settings.FLUXSITE_MODEL), weights=False)
        except OSError as error:
            raise CommandError(f"FLUXSITE_MODEL=store:{settings.SHARED_MODEL}: {error}") from error


def first_rows(out: OutputWrapper) -> None:
    """The administrator that the environment names, while there is no user, and the demo model's LoRAs."""
    try:
        made = setup.create_administrator_from(settings.FLUXSITE_ADMIN_USER, settings.FLUXSITE_ADMIN_PASSWORD)
    except ValidationError as error:
        raise CommandError(
            f"FLUXSITE_ADMIN_USER, FLUXSITE_ADMIN_PASSWORD: {' '.join(error.messages)}"
        ) from error
    if made:
        out.write(f"Made the first administrator, {made}.")
    if ModelCard.of(settings.FLUXSITE_MODEL).demo:
        add_demo_loras()
