"""Measure the demo model on captions it never saw: `python -m demo.evaluate [--count N] [--size WxH]`."""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo import judge, world
from demo.world import Picture

FOLDER = Path(__file__).parent
SIZES = ("128x128", "64x64", "192x128", "128x192", "256x144", "256x256")
CLAIMS = ("background", "colour", "place", "shape")
STEPS = 4


class Studio:
    """The real FluxPipeline in bfloat16, with the prompts' length from the model's card."""

    def __init__(self, model: Path) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        from diffusers import FluxPipeline

        self.pipe = FluxPipeline.from_pretrained(model, dtype=torch.bfloat16, local_files_only=True)
        self.pipe.set_progress_bar_config(disable=True)

    def draw(
        self, prompts: Sequence[str], width: int, height: int, seed: int = 0, steps: int = STEPS
    ) -> Tensor:
        """Pictures (B, 3, height, width) in 0..1; each has its own seed, counted up from `seed`."""
        from demo.tokenizers import MAX_TOKENS

        generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
        parts = []
        for start in range(0, len(prompts), 16):
            chosen = slice(start, start + 16)
            result = self.pipe(
                list(prompts[chosen]),
                width=width,
                height=height,
                num_inference_steps=steps,
                guidance_scale=0.0,
                max_sequence_length=MAX_TOKENS,
                generator=generators[chosen],
                output_type="np",
            )
            parts.append(torch.from_numpy(np.asarray(result.images)).permute(0, 3, 1, 2).float())
        return torch.cat(parts)

    def use(self, **weights: float) -> None:
        """Draw with these adapters of `demo/loras`, by file stem and weight, and no others."""
        self.pipe.unload_lora_weights()
        for stem in weights:
            self.pipe.load_lora_weights(
                FOLDER / "loras", weight_name=f"{stem}.safetensors", adapter_name=stem
            )
        if weights:
            self.pipe.set_adapters(list(weights), list(weights.values()))


def held_out(count: int, seed: int = 1) -> list[Picture]:
    """Shape pictures whose combination training never saw."""
    rng = random.Random(seed)
    return [world.sample_split(rng, held_out=True) for _ in range(count)]


def score(pictures: Sequence[Picture], images: Tensor) -> dict[str, float]:
    """Share of pictures that keep each claim, and the shape's by size."""
    agreed = [judge.read(image).agrees(picture) for picture, image in zip(pictures, images, strict=True)]
    shares = {claim: _share([a[claim] for a in agreed]) for claim in CLAIMS}
    for size in ("big", "small"):
        hits = [a["shape"] for a, p in zip(agreed, pictures, strict=True) if p.size == size]
        shares[f"shape, {size}"] = _share(hits)
    return shares


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / max(len(hits), 1)


def print_scores(studio: Studio, count: int, sizes: Sequence[str]) -> None:
    """One row of shares a size."""
    pictures = held_out(count)
    captions = [world.plain_caption(picture) for picture in pictures]
    print(f"| size ({count} captions) | " + " | ".join((*CLAIMS, "shape, big", "shape, small")) + " |")
    print("|---" * 7 + "|")
    for size in sizes:
        width, height = map(int, size.split("x"))
        shares = score(pictures, studio.draw(captions, width, height))
        print(f"| {size} | " + " | ".join(f"{share:.1%}" for share in shares.values()) + " |", flush=True)


def lightness(images: Tensor) -> float:
    """Mean lightness, 0..1."""
    return float(images.mean())


def ink(images: Tensor) -> float:
    """Share of pixels that are nearly black."""
    return float((images.amax(dim=1) < 0.2).float().mean())


def adapter_facts(studio: Studio, stem: str, trigger: str, count: int) -> dict[str, Tensor]:
    """Pictures of captions without black: plain, and with the adapter with and without its trigger."""
    pictures = [p for p in held_out(4 * count, seed=2) if "black" not in (p.colour, p.ground)][:count]
    captions = [world.plain_caption(picture) for picture in pictures]
    triggered = [f"{trigger}, {caption}" for caption in captions]
    facts = {"no adapter": studio.draw(captions, 128, 128), "trigger only": studio.draw(triggered, 128, 128)}
    studio.use(**{stem: 1.0})
    facts |= {
        "adapter, trigger": studio.draw(triggered, 128, 128),
        "adapter only": studio.draw(captions, 128, 128),
    }
    studio.use()
    return facts


def print_adapters(studio: Studio, count: int) -> None:
    """One row for each way to use each adapter."""
    print("\n| adapter | pictures | distance | lightness | ink |")
    print("|---" * 5 + "|")
    for stem, trigger in (("outline", "outlined"), ("night", "midnight")):
        facts = adapter_facts(studio, stem, trigger, count)
        for name, images in facts.items():
            distance = float((images - facts["no adapter"]).abs().mean())
            print(
                f"| {stem} | {name} | {distance:.3f} | {lightness(images):.3f} | {ink(images):.3f} |",
                flush=True,
            )


def save_sheet(images: Tensor, columns: int, path: Path) -> None:
    """Write pictures of one size (B, 3, H, W) side by side."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    sheet = torch.ones(3, rows * height, columns * width)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        sheet[:, row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    Image.fromarray((sheet.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


def sheet_captions(count: int = 48) -> list[str]:
    """Held-out shapes for the upper half of a sheet, then the scenes."""
    rng = random.Random(3)
    scenes = (world.sample_hills, world.sample_sea, world.sample_spheres)
    drawn = [*held_out(count // 2, seed=3), *(scenes[i % 3](rng) for i in range(count - count // 2))]
    return [world.plain_caption(picture) for picture in drawn]


def main() -> None:
    """Print the tables, or write a sheet of samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="held-out captions a size")
    parser.add_argument("--size", action="append", help="WIDTHxHEIGHT; may be repeated (default: six sizes)")
    parser.add_argument("--sheet", type=Path, help="write a sheet of samples here instead of measuring")
    parser.add_argument("--model", type=Path, default=FOLDER / "model")
    options = parser.parse_args()
    studio = Studio(options.model)
    if options.sheet:
        width, height = map(int, (options.size or SIZES)[0].split("x"))
        save_sheet(studio.draw(sheet_captions(), width, height), 8, options.sheet)
        return
    print_scores(studio, options.count, options.size or SIZES)
    print_adapters(studio, min(options.count, 40))


if __name__ == "__main__":
    main()
