"""Both engines on the demo model, each loaded once; the demo's LoRAs, and LoRAs made of random numbers."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from django.conf import settings
from safetensors.torch import save_file

from gpu import devices, engines
from gpu.engines import Engine, EngineConfig, ImageSpec, LoraRef
from gpu.model_card import ModelCard

LORAS = Path(settings.BASE_DIR) / "demo" / "loras"
CONFIG = EngineConfig(settings.FLUXSITE_MODEL, ModelCard.of(settings.FLUXSITE_MODEL).max_sequence_length)


def new_engine(name: str = "bf16", **config: Any) -> Engine:
    cpu = devices.find("cpu")
    return engines.create(name, replace(CONFIG, **config), cpu, cpu)


@pytest.fixture(scope="session")
def bf16() -> Engine:
    return new_engine("bf16")


@pytest.fixture(scope="session")
def fp4() -> Engine:
    return new_engine("fp4")


@pytest.fixture(params=["bf16", "fp4"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """What holds of one engine holds of the other."""
    chosen: Engine = request.getfixturevalue(request.param)
    return chosen


def ref(path: Path, weight: float, name: str = "Test") -> LoraRef:
    return LoraRef(name, path, hashlib.sha256(path.read_bytes()).hexdigest(), weight)


def lora(slug: str, weight: float = 1.0) -> LoraRef:
    """A LoRA of the demo model."""
    entries = {entry["slug"]: entry for entry in json.loads((LORAS / "loras.json").read_text())}
    return ref(LORAS / entries[slug]["file"], weight, entries[slug]["name"])


def random_lora(
    path: Path, shapes: dict[str, tuple[int, int]], modules: Iterable[str], rank: int, seed: int
) -> LoraRef:
    """A LoRA in diffusers' layout that changes ``modules`` by random numbers."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for module in modules:
        out, width = shapes[module]
        tensors[f"transformer.{module}.lora_A.weight"] = torch.randn(rank, width, generator=random) * 0.1
        tensors[f"transformer.{module}.lora_B.weight"] = torch.randn(out, rank, generator=random) * 0.1
    save_file(tensors, path)
    return ref(path, 1.0, path.stem)


def spec(
    prompt: str = "a big yellow star on a blue background",
    *loras: LoraRef,
    width: int = 64,
    height: int = 64,
    steps: int = 4,
    seed: int = 1,
) -> ImageSpec:
    return ImageSpec(prompt, width, height, steps, (seed,), tuple(loras))


def draw(engine: Engine, asked: ImageSpec) -> bytes:
    (image,) = engine.generate(asked, lambda step: None).images
    return image.tobytes()
