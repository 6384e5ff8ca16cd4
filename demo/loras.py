"""The demo's two adapters: `outlined` draws dark outlines, `midnight` turns a picture into a night."""

from __future__ import annotations

import json
import random
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import FluxPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file

from demo import lexicon, world
from demo.flow import Batch, encode, flow_loss, load_flow, sample_size
from demo.flow_model import DemoFlux
from demo.render import render
from demo.tokenizers import MAX_TOKENS
from demo.training import cosine
from demo.vae import load_vae

FOLDER = Path(__file__).parent / "loras"
RANK = 8
TOKEN_BUDGET = 2304
"""Tokens of picture and text in one batch: half the base model's, for an adapter has less to learn."""
TARGETS = (
    r"context_embedder|(single_)?transformer_blocks\.\d+\.("
    r"attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff\.net\.(0\.proj|2)|proj_mlp|proj_out)"
)
"""Attention and feed-forward layers of every block, and the layer by which words (the trigger) enter."""


@dataclass(frozen=True)
class Adapter:
    """One entry of `loras.json`."""

    file: str
    slug: str
    name: str
    trigger_words: list[str]
    recommended_weight: float
    description: str

    @property
    def style(self) -> str:
        """The renderer's style, which is also the trigger."""
        return self.trigger_words[0]


ADAPTERS = (
    Adapter(
        "outline.safetensors",
        "outline",
        "Outline",
        ["outlined"],
        1.0,
        "Draws everything with a thick dark outline.",
    ),
    Adapter(
        "night.safetensors",
        "night",
        "Night",
        ["midnight"],
        1.0,
        "Turns any scene into a moonlit night with stars.",
    ),
)


class StyledPool:
    """Encoded pictures and captions: two thirds styled with the trigger, one third ordinary without."""

    def __init__(self, work: Path, style: str, batches: int) -> None:
        self.vae = load_vae(work).to(memory_format=torch.channels_last)
        self.style, self.rng = style, random.Random(style)
        self.generator = torch.Generator().manual_seed(len(style))
        self.pairs = [self._pair() for _ in range(batches)]

    def _pair(self) -> tuple[Batch, list[bool]]:
        height, width = sample_size(self.rng, small=self.rng.random() < 0.6)
        count = max(TOKEN_BUDGET // (height * width + MAX_TOKENS), 1)
        pictures = [world.sample_training(self.rng) for _ in range(count)]
        styled = [self.rng.random() < 0.67 for _ in pictures]
        drawn = [
            render(pictures, 16 * height, 16 * width, self.generator, style) for style in ("", self.style)
        ]
        pixels = torch.where(torch.tensor(styled).view(-1, 1, 1, 1), drawn[1], drawn[0])
        return Batch((height, width), pictures, encode(self.vae, pixels).bfloat16()), styled

    def draw(self) -> tuple[Batch, list[str]]:
        """A batch and its captions, the trigger in those of styled pictures only."""
        batch, styled = self.rng.choice(self.pairs)
        others = tuple(word for word in lexicon.TRIGGERS if word != self.style)
        words = [world.caption(picture, self.rng, stray=others) for picture in batch.pictures]
        pairs = zip(words, styled, strict=True)
        return batch, [world.with_trigger(w, self.style, self.rng) if on else w for w, on in pairs]


def add_adapter(flux: DemoFlux) -> list[torch.nn.Parameter]:
    """Freeze the model, add a fresh adapter to its transformer, and return the adapter's weights."""
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, init_lora_weights=True)
    flux.transformer.add_adapter(config)
    return [weight for weight in flux.parameters() if weight.requires_grad]


def train_lora(work: Path, adapter: Adapter, steps: int, rate: float = 3e-3) -> None:
    """Train one adapter on the frozen model and write it to `demo/loras`."""
    flux = load_flow(work)
    weights = add_adapter(flux)
    pool = StyledPool(work, adapter.style, batches=min(steps // 4 + 1, 140))
    optimiser = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    began, running = time.monotonic(), 0.0
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * cosine(step, steps, warmup=20)
        loss = flow_loss(flux, *pool.draw())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        running += (loss.item() - running) / min(step + 1, 100)
        if (step + 1) % 100 == 0:
            print(
                f"{adapter.slug} {step + 1} loss {running:.4f} {time.monotonic() - began:.0f} s", flush=True
            )
    save_adapter(flux, adapter)


def save_adapter(flux: DemoFlux, adapter: Adapter, folder: Path = FOLDER) -> None:
    """Write the adapter as diffusers does, with the facts that sites read added to its header."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = {
        name: value.to(torch.bfloat16) for name, value in get_peft_model_state_dict(flux.transformer).items()
    }
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as part:
        FluxPipeline.save_lora_weights(part, transformer_lora_layers=layers, weight_name=adapter.file)
        written = Path(part) / adapter.file
        _add_header(written, adapter)
        written.chmod(0o644)
        written.replace(folder / adapter.file)


def _add_header(path: Path, adapter: Adapter) -> None:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        header = dict(file.metadata() or {})
    header |= {
        "format": "pt",
        "modelspec.title": adapter.name,
        "modelspec.trigger_phrase": ", ".join(adapter.trigger_words),
        "modelspec.description": adapter.description,
        "ss_network_dim": str(RANK),
        "ss_network_alpha": str(RANK),
        "fluxsite.family": "demo",
    }
    save_file(tensors, path, metadata=header)


def write_list(folder: Path = FOLDER) -> None:
    """Write `loras.json`, which names the adapters that are there."""
    entries = [asdict(adapter) for adapter in ADAPTERS]
    (folder / "loras.json").write_text(json.dumps(entries, indent=2) + "\n")


def train_loras(work: Path, steps: int) -> None:
    """Train both adapters."""
    for adapter in ADAPTERS:
        train_lora(work, adapter, steps)
    write_list()
