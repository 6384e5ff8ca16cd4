"""``manage.py gpus``: what it says, and that it loads no torch."""

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from gpu import devices
from gpu.devices import Device

GIB = 1024**3
CPU = Device("cpu", "A CPU", "cpu", 64 * GIB, 60 * GIB)
RTX_4060 = Device("GPU-4060", "RTX 4060", "nvidia", 8 * GIB, 5 * GIB, (8, 9), "580.95.05")
MI300X = Device("GPU-300", "MI300X", "amd", 192 * GIB, 190 * GIB, None, "amdgpu")

SCRIPT = """
import sys, django
from django.core.management import call_command
django.setup()
call_command("gpus")
call_command("gpus", "--json")
assert not {"torch", "diffusers", "transformers", "torchao", "peft", "nunchaku"} & sys.modules.keys()
"""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(devices, "all_devices", lambda: [RTX_4060, MI300X, CPU])
    monkeypatch.setattr("gpu.management.commands.gpus.nunchaku_installed", lambda: False)
    settings.FLUXSITE_MODEL = "black-forest-labs/FLUX.1-schnell"


def output(*options: str) -> str:
    out = StringIO()
    call_command("gpus", *options, stdout=out)
    return out.getvalue()


@pytest.mark.usefixtures("machine")
def test_each_device_has_a_block_and_each_engine_a_line() -> None:
    model, rtx_4060, mi300x, cpu = output().strip().split("\n\n")
    assert model == "Model: FLUX.1-schnell, 16,860 million parameters"
    assert rtx_4060.splitlines()[:5] == [
        "RTX 4060",
        "  id       GPU-4060",
        "  compute  8.9",
        "  driver   580.95.05",
        "  memory   8.0 GiB, 5.0 GiB free",
    ]
    assert "  fp4      no: The model needs 20.6 GiB" in rtx_4060
    assert "requirements-fp4.txt" in rtx_4060
    assert "  bf16     no: The model needs 36.4 GiB" in rtx_4060
    assert "  fp4      torchao NVFP4 weight-only, needs 20.6 GiB" in mi300x
    assert "  bf16     diffusers BF16, needs 36.4 GiB" in cpu
    assert "compute" not in cpu


@pytest.mark.usefixtures("machine")
def test_a_note_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rtx_4090 = Device("GPU-4090", "RTX 4090", "nvidia", 24 * GIB, 23 * GIB, (8, 9), "580.95.05")
    monkeypatch.setattr(devices, "all_devices", lambda: [rtx_4090, CPU])
    assert "\n           nunchaku would be faster here" in output()


@pytest.mark.usefixtures("machine")
def test_json_is_for_programs() -> None:
    found = json.loads(output("--json"))
    assert found["model"] == {"name": "FLUX.1-schnell", "parameters": 16_860_369_379}
    rtx_4060, mi300x, cpu = found["devices"]
    assert (rtx_4060["capability"], rtx_4060["free"]) == ([8, 9], 5 * GIB)
    assert set(rtx_4060["engines"]["fp4"]) == {"reason"}
    assert mi300x["engines"]["bf16"]["backend"] == "diffusers"
    assert cpu["id"] == "cpu"


def test_a_model_that_is_not_there_is_an_error(settings: Any, tmp_path: Path) -> None:
    settings.FLUXSITE_MODEL = str(tmp_path)
    with pytest.raises(CommandError, match=r"holds no model_index\.json"):
        call_command("gpus")


def test_it_ends_well_without_torch_whatever_the_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\n  id       cpu\n" in done.stdout
