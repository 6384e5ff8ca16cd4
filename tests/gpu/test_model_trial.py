"""``manage.py doctor --model`` on the demo model: both engines for real, and what it says of faults."""

import io
import json
import sys
from pathlib import Path

import PIL.Image
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from safetensors.torch import load_file, save_file

from gpu.engines import examination
from tests.gpu.engines.conftest import CONFIG, LORAS


def doctor(*arguments: str) -> str:
    said = io.StringIO()
    call_command("doctor", "--model", "--side", "64", "--device", "cpu", *arguments, stdout=said)
    return said.getvalue()


def test_it_draws_on_both_engines_and_compares_them(tmp_path: Path) -> None:
    said = doctor("--keep", str(tmp_path))
    assert said.rstrip().endswith("All of it works.")
    assert "FP4 and BF16 differ by" in said
    for engine in ("fp4", "bf16"):
        plain, with_lora = (PIL.Image.open(tmp_path / f"{engine}-{name}.png") for name in ("plain", "lora"))
        assert plain.size == (64, 64)
        assert plain.tobytes() != with_lora.tobytes()
    assert said.count("differs True") == 4
    assert "same bytes False" not in said


def test_a_lora_that_cannot_work_is_said_with_its_reason(tmp_path: Path) -> None:
    foreign = {f"unet.{name}": tensor for name, tensor in load_file(LORAS / "night.safetensors").items()}
    save_file(foreign, tmp_path / "foreign.safetensors")
    said = io.StringIO()
    with pytest.raises(CommandError, match="bf16 did not work"):
        call_command(
            "doctor", "--model", "--engine", "bf16", "--device", "cpu", "--side", "64",
            "--lora", str(tmp_path / "foreign.safetensors"), stdout=said,
        )  # fmt: skip
    assert "Failed: the LoRA cannot be used" in said.getvalue()


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="cpu"):
        call_command("doctor", "--model", "--device", "GPU-none", stdout=io.StringIO())


def test_a_step_that_breaks_is_reported_with_its_trace_and_ends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {
        "engine": "bf16", "device": "cpu", "config": {"model": CONFIG.model, "max_sequence_length": 16},
        "prompt": "a star", "side": 64, "steps": 1, "folder": str(tmp_path / "none"),
    }  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    examination.main()
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    steps = [finding["step"] for finding in findings]
    assert steps == ["choose a backend", "load the model", "first picture"]
    assert "FileNotFoundError" in findings[-1]["error"]
    assert "Traceback" in findings[-1]["trace"]
