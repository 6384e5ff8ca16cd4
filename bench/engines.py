"""What our engines cost beside a bare FluxPipeline: ``python -m bench.engines``.

All of it runs in one process and in turns, so that a machine that slows down slows every row; a row's
figure is the median of its turns.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline

from bench.four_bit import stored_bytes
from gpu import devices
from gpu.engines import EngineConfig, ImageSpec, LoraRef, backends
from gpu.engines.flux import FluxEngine
from gpu.model_card import ModelCard

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "a big yellow star on a blue background"


def loras(folder: Path) -> tuple[LoraRef, ...]:
    return tuple(LoraRef.of(path, 0.7) for path in sorted(folder.glob("*.safetensors")))


class Bench:
    def __init__(self, model: str, side: int, turns: int, lora_folder: Path, device: devices.Device) -> None:
        card = ModelCard.of(model)
        self.config = EngineConfig(model, card.max_sequence_length)
        self.spec = ImageSpec(PROMPT, side, side, 4, (1,))
        self.turns, self.loras = turns, loras(lora_folder)
        self.device, self.host = device, devices.find("cpu")
        self.raw: Any = FluxPipeline.from_pretrained(model, dtype=torch.bfloat16)
        self.raw.set_progress_bar_config(disable=True)
        self.raw.to("cpu" if device.id == "cpu" else "cuda")
        self.bf16, self.fp4 = self.engine("bf16"), self.engine("fp4")

    def engine(self, name: str, **config: Any) -> FluxEngine:
        engine = backends.create(name, replace(self.config, **config), self.device, self.host)
        assert isinstance(engine, FluxEngine)
        engine.load()
        return engine

    def rows(self) -> dict[str, Callable[[], Any]]:
        """What is timed. Ours without a cached prompt does the same work as the bare pipeline."""
        return {
            "FluxPipeline, bare": self.draw_raw,
            "bf16, same work": lambda: self.draw(self.bf16, forget=True),
            "bf16, prompt cached": lambda: self.draw(self.bf16),
            "fp4, same work": lambda: self.draw(self.fp4, forget=True),
            "fp4, prompt cached": lambda: self.draw(self.fp4),
            "bf16, four together": lambda: self.draw(self.bf16, seeds=(1, 2, 3, 4)),
            "bf16, four in turn": lambda: [self.draw(self.bf16, seeds=(seed,)) for seed in (1, 2, 3, 4)],
        }

    def draw_raw(self) -> Any:
        return self.raw(
            prompt=self.spec.prompt, width=self.spec.width, height=self.spec.height,
            num_inference_steps=self.spec.steps, guidance_scale=0.0,
            max_sequence_length=self.config.max_sequence_length,
            generator=torch.Generator("cpu").manual_seed(1),
        ).images[0]  # fmt: skip

    def draw(self, engine: FluxEngine, *, forget: bool = False, **changes: Any) -> Any:
        if forget:
            engine._prompts.clear()
        return engine.generate(replace(self.spec, **changes), lambda step: None).images[0]

    def timed(self, rows: dict[str, Callable[[], Any]]) -> dict[str, float]:
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        for turn in range(self.turns + 1):
            for name, action in rows.items():
                took = seconds_of(action)
                if turn:  # the first is to warm up
                    seconds[name].append(took)
        return {name: statistics.median(took) for name, took in seconds.items()}

    def switches(self, engine: FluxEngine) -> dict[str, float]:
        """Seconds to put LoRAs on: from their files, and when they are resident."""
        adapters = engine._new_loras(engine._pipeline)
        one, two = self.loras[:1], self.loras
        cold = seconds_of(lambda: adapters.apply(two))
        warm = []
        for _ in range(self.turns):
            warm += [seconds_of(lambda: adapters.apply(one)), seconds_of(lambda: adapters.apply(two))]
        adapters.apply(())
        return {"cold": cold, "warm": statistics.median(warm)}


def seconds_of(action: Callable[[], Any]) -> float:
    gc.collect()
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def pixel_distance(bench: Bench) -> tuple[float, float]:
    """Mean distance in levels of 255: FP4 to BF16 with one seed, and BF16 to itself with another seed."""
    cards = ModelCard.of(bench.config.model)
    apart, seeds = [], []
    for seed, prompt in enumerate(cards.example_prompts * 3):
        asked: dict[str, Any] = {"prompt": prompt}
        fp4, bf16, other = (
            np.asarray(bench.draw(engine, seeds=(number,), **asked), float)
            for engine, number in ((bench.fp4, seed), (bench.bf16, seed), (bench.bf16, seed + 100))
        )
        apart.append(np.abs(fp4 - bf16).mean())
        seeds.append(np.abs(bf16 - other).mean())
    return float(np.mean(apart)), float(np.mean(seeds))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default=str(ROOT / "demo" / "model"))
    options.add_argument("--loras", type=Path, default=ROOT / "demo" / "loras")
    options.add_argument("--side", type=int, default=128, help="pixels")
    options.add_argument("--turns", type=int, default=15)
    chosen = options.parse_args()
    device = devices.all_devices()[0]
    bench = Bench(chosen.model, chosen.side, chosen.turns, chosen.loras, device)

    print(f"{Path(chosen.model).name}, {chosen.side} × {chosen.side}, 4 steps, {device.name}")
    print(f"bf16: {bench.bf16.backend}\nfp4:  {bench.fp4.backend}\n")
    times = bench.timed(bench.rows())
    raw = times["FluxPipeline, bare"]
    for name, seconds in times.items():
        print(f"{name:24} {seconds * 1000:8.1f} ms {seconds / raw:7.3f} × bare")
    whole = stored_bytes(bench.raw.transformer)
    for engine in (bench.bf16, bench.fp4):
        held = stored_bytes(engine._pipeline.transformer)
        print(f"{engine.name}, transformer {'':8} {held / 2**20:6.2f} MiB {held / whole:7.3f} × bare")
    for engine in (bench.bf16, bench.fp4):
        picture = times[f"{engine.name}, prompt cached"]
        for how, seconds in bench.switches(engine).items():
            took, share = f"{seconds * 1000:8.1f} ms", f"{seconds / picture:7.1%}"
            print(f"{engine.name}, LoRAs {how:12} {took} {share} of a picture")
    fp4, seeds = pixel_distance(bench)
    print(f"FP4 to BF16: {fp4:.1f} of 255 levels on average; another seed: {seeds:.1f}")


if __name__ == "__main__":
    main()
