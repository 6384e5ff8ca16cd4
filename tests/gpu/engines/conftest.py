"""Both engines on the demo model, each loaded once; the demo's LoRAs, and LoRAs made of random numbers."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from django.conf import settings
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from gpu import devices, engines
from gpu.engines import Engine, EngineConfig, ImageSpec, LoraRef
from gpu.engines.lora_weights import linear_shapes
from gpu.model_card import ModelCard
from tests.gpu.engines.lora_files import Shapes, Tensors

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


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return FluxPipeline.from_pretrained(settings.FLUXSITE_MODEL, dtype=torch.float32)


@pytest.fixture(scope="module")
def tiny(pipeline: Any) -> Shapes:
    """The linear layers of the demo model."""
    return linear_shapes(pipeline.transformer), linear_shapes(pipeline.text_encoder)


@pytest.fixture(scope="module")
def real() -> Shapes:
    """The linear layers of FLUX.1-schnell, of which no weight is made."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=19, num_single_layers=38, guidance_embeds=False)
        clip = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12))
    return linear_shapes(transformer), linear_shapes(clip)


@pytest.fixture(scope="module")
def night() -> Tensors:
    """A LoRA of the demo model, in diffusers' layout."""
    tensors: Tensors = load_file(Path(settings.BASE_DIR) / "demo" / "loras" / "night.safetensors")
    return tensors


def ref(path: Path, weight: float, name: str = "Test") -> LoraRef:
    return LoraRef.of(path, weight, name)


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
