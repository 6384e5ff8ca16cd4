"""``manage.py doctor --model``: try each engine here, and say what works, how fast, and what does not."""

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageChops
import PIL.ImageStat
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gpu import devices
from gpu.engines import ENGINES
from gpu.model_card import ModelCard


class ModelTrial(BaseCommand):
    help = (
        "Load the model, draw with and without a LoRA on each engine, and report times, memory and what "
        "failed. The first thing to run on a machine with a new GPU or driver."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--engine", choices=ENGINES, action="append", help="only this one (default: all)")
        parser.add_argument("--device", help="GPU UUID or cpu (default: the first GPU, else the CPU)")
        parser.add_argument("--lora", default="", help="a .safetensors file (default: random numbers)")
        parser.add_argument("--side", type=int, help="pixels of a square picture (default: the model's)")
        parser.add_argument("--steps", type=int, default=4)
        parser.add_argument("--prompt", default="A red fox in the snow, morning light")
        parser.add_argument("--keep", metavar="FOLDER", help="leave the pictures here")

    def handle(self, *args: Any, **options: Any) -> None:
        device = self._device(options["device"])
        if options["lora"] and not Path(options["lora"]).is_file():
            raise CommandError(f"There is no file {options['lora']}.")
        self.stdout.write(f"{settings.FLUXSITE_MODEL} on {device.name} ({device.id})")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(options["keep"] or scratch)
            folder.mkdir(parents=True, exist_ok=True)
            engines = options["engine"] or list(ENGINES)
            failed = [engine for engine in engines if not self._examine(engine, device, folder, options)]
            self._compare(folder)
        if failed:
            raise CommandError(f"{' and '.join(failed)} did not work: see above.")
        self.stdout.write("All of it works.")

    def _device(self, wanted: str | None) -> devices.Device:
        if wanted is None:
            return devices.all_devices()[0]
        try:
            return devices.find(wanted)
        except LookupError as error:
            raise CommandError(str(error)) from error

    def _examine(self, engine: str, device: devices.Device, folder: Path, options: dict[str, Any]) -> bool:
        """Run the steps in a process of their own: memory beside torch's comes back only when it ends."""
        self.stdout.write(f"\n{engine}")
        request = self._request(engine, device, folder, options)
        with subprocess.Popen(
            [sys.executable, "-m", "gpu.engines.examination"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=settings.BASE_DIR,
            env={**os.environ, **device.environment},
        ) as process:  # fmt: skip
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            shown = [self._show(line) for line in process.stdout]
        if process.returncode:
            self.stdout.write(f"  The process ended with {process.returncode}, in the step after that line.")
        return all(shown) and not process.returncode

    def _request(self, engine: str, device: Any, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
        card = ModelCard.of(settings.FLUXSITE_MODEL)
        config = {
            "model": settings.FLUXSITE_MODEL,
            "max_sequence_length": card.max_sequence_length,
            "nunchaku_transformer": settings.FLUXSITE_NUNCHAKU_TRANSFORMER,
            "nunchaku_t5": settings.FLUXSITE_NUNCHAKU_T5,
        }
        return {
            "engine": engine, "device": device.id, "config": config, "prompt": options["prompt"],
            "side": options["side"] or card.default_side, "steps": options["steps"],
            "folder": str(folder.absolute()), "lora": options["lora"],
        }  # fmt: skip

    def _show(self, line: str) -> bool:
        """Print one finding; what is no finding (a library that prints) is passed on."""
        if not line.startswith("{"):
            self.stdout.write(f"  {line.rstrip()}")
            return True
        finding = json.loads(line)
        facts = ", ".join(f"{name} {value}" for name, value in finding["facts"].items())
        self.stdout.write(f"  {finding['seconds']:8.2f} s  {finding['step']:36} {facts}")
        if finding["error"]:
            self.stdout.write(f"  Failed: {finding['error']}")
            self.stdout.write(finding["trace"])
        return not finding["error"]

    def _compare(self, folder: Path) -> None:
        pair = [folder / f"{engine}-plain.png" for engine in ("fp4", "bf16")]
        if all(path.exists() for path in pair):
            fp4, bf16 = (PIL.Image.open(path) for path in pair)
            mean = PIL.ImageStat.Stat(PIL.ImageChops.difference(fp4, bf16)).mean
            self.stdout.write(
                f"\nFP4 and BF16 differ by {sum(mean) / len(mean):.1f} of 255 levels on average."
            )
