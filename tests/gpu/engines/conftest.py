"""The BF16 engine on the demo model, loaded once; and the demo's LoRAs."""

import hashlib
import json
from pathlib import Path

import pytest
from django.conf import settings

from gpu import engines
from gpu.engines import Engine, ImageSpec, LoraRef
from gpu.model_card import ModelCard

LORAS = Path(settings.BASE_DIR) / "demo" / "loras"


def new_engine(model: str = settings.FLUXSITE_MODEL) -> Engine:
    return engines.create("bf16", model, ModelCard.of(settings.FLUXSITE_MODEL).max_sequence_length)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return new_engine()


def ref(path: Path, weight: float, name: str = "Test") -> LoraRef:
    return LoraRef(name, path, hashlib.sha256(path.read_bytes()).hexdigest(), weight)


def lora(slug: str, weight: float = 1.0) -> LoraRef:
    """A LoRA of the demo model."""
    entries = {entry["slug"]: entry for entry in json.loads((LORAS / "loras.json").read_text())}
    return ref(LORAS / entries[slug]["file"], weight, entries[slug]["name"])


def spec(
    prompt: str = "a big yellow star on a blue background",
    *loras: LoraRef,
    width: int = 64,
    height: int = 64,
    steps: int = 4,
    seed: int = 1,
) -> ImageSpec:
    return ImageSpec(prompt, width, height, steps, (seed,), tuple(loras))
