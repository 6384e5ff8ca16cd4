"""Assemble the trained parts as a FluxPipeline folder in bfloat16, and write the card the site reads."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

from demo import lexicon
from demo.flow import load_flow
from demo.tokenizers import MAX_TOKENS, clip_tokenizer, t5_tokenizer
from demo.vae import load_vae

MODEL = Path(__file__).parent / "model"
EXAMPLES = (
    "A big yellow star on a blue background",
    "A sun over an orange sea",
    "Three glazed spheres on a mint ground, soft studio light",
)


def card() -> dict[str, object]:
    """What the site needs to know of the model; sides and pixels are limits, multiples of 16."""
    return {
        "name": "fluxsite demo",
        "demo": True,
        "family": "demo",
        "min_side": 64,
        "max_side": 256,
        "max_pixels": 65536,
        "default_side": 128,
        "max_sequence_length": MAX_TOKENS,
        "example_prompts": list(EXAMPLES),
        "words": _words(),
    }


def _words() -> dict[str, list[str]]:
    return {
        "shapes": list(lexicon.SHAPES),
        "colours": list(lexicon.COLOURS),
        "backgrounds": list(lexicon.COLOURS),
        "places": list(lexicon.PLACES),
        "sizes": [size for size in lexicon.SIZES if size],
        "scenes": ["misty hills", "a moon over the sea", "a sun over the sea", "spheres on a mint ground"],
        "skies": list(lexicon.SKIES),
        "seas": list(lexicon.SEAS),
        "grounds": list(lexicon.GROUNDS),
        "triggers": list(lexicon.TRIGGERS),
    }


def assemble(work: Path) -> FluxPipeline:
    """The complete pipeline in bfloat16, with schnell's schedule."""
    flux = load_flow(work)
    parts = {
        "vae": load_vae(work),
        "text_encoder": flux.clip,
        "text_encoder_2": flux.t5,
        "transformer": flux.transformer,
    }
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        **{name: part.to(torch.bfloat16) for name, part in parts.items()},
    )


def replace_folder(new: Path, target: Path) -> None:
    """Put `new` in the place of `target` by renaming, so that no reader meets half a model."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def export_model(work: Path, target: Path = MODEL) -> None:
    """Write the newest weights to `target`."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        new = Path(folder) / target.name
        assemble(work).save_pretrained(new)
        (new / "fluxsite.json").write_text(json.dumps(card(), indent=2) + "\n")
        replace_folder(new, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"export {target.name} {size / 1e6:.2f} MB", flush=True)
