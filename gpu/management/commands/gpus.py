"""``manage.py gpus``: the devices of this machine, and what can draw on each. Loads no torch."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gpu import devices
from gpu.devices import Device
from gpu.engines.backends import ENGINES, Plan, Refusal, gib, plan
from gpu.model_card import ModelCard
from gpu.model_size import ModelSize
from gpu.nunchaku_package import nunchaku_installed


class Command(BaseCommand):
    help = "List the devices of this machine: their memory, and which engine runs on them, how, or why not."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs; memory in bytes")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            name, size = ModelCard.of(settings.FLUXSITE_MODEL).name, ModelSize.of(settings.FLUXSITE_MODEL)
        except (OSError, ValueError) as error:
            raise CommandError(f"The model {settings.FLUXSITE_MODEL} cannot be read: {error}") from error
        present = devices.all_devices()
        plans = {device: _plans(device, present[-1], size) for device in present}
        if options["json"]:
            found = [asdict(device) | {"engines": _facts(plans[device])} for device in present]
            model = {"name": name, "parameters": size.total}
            self.stdout.write(json.dumps({"model": model, "devices": found}, indent=2))
            return
        self.stdout.write(f"Model: {name}, {size.total / 1e6:,.0f} million parameters")
        for device, engines in plans.items():
            self._show(device, engines)

    def _show(self, device: Device, engines: dict[str, Plan | Refusal]) -> None:
        self.stdout.write(f"\n{device.name}")
        self._line("id", device.id)
        if device.capability:
            self._line("compute", "{}.{}".format(*device.capability))
        if device.driver:
            self._line("driver", device.driver)
        self._line("memory", f"{gib(device.total)}, {gib(device.free)} free")
        for engine, chosen in engines.items():
            self._line(engine, f"no: {chosen.reason}" if isinstance(chosen, Refusal) else str(chosen))
            if isinstance(chosen, Plan) and chosen.note:
                self._line("", chosen.note)

    def _line(self, name: str, value: str) -> None:
        self.stdout.write(f"  {name:8} {value}")


def _plans(device: Device, host: Device, model: ModelSize) -> dict[str, Plan | Refusal]:
    adapters = settings.FLUXSITE_LORAS_IN_MEMORY_MB * 1024**2
    installed = nunchaku_installed()
    return {engine: plan(engine, device, host, model, installed, adapters) for engine in ENGINES}


def _facts(engines: dict[str, Plan | Refusal]) -> dict[str, dict[str, Any]]:
    """Each engine with its plan, or with ``reason``: why it cannot run."""
    return {engine: asdict(chosen) for engine, chosen in engines.items()}
