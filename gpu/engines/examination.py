"""An engine tried on this machine, step by step: one process for each engine (``manage.py doctor --model``).

``python -m gpu.engines.examination`` reads a Request as JSON from stdin, and prints a Finding as JSON for
each step, so that a process that dies has told how far it came.
"""

import json
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from gpu import devices
from gpu.engines import backends
from gpu.engines.errors import EngineError
from gpu.engines.lora_weights import linear_shapes
from gpu.engines.spec import Engine, EngineConfig, ImageSpec, LoraRef


@dataclass(frozen=True)
class Request:
    """What to try. ``lora``: a file, or empty for one of random numbers. Pictures go to ``folder``."""

    engine: str
    device: str
    config: dict[str, Any]
    prompt: str
    side: int
    steps: int
    folder: str
    lora: str = ""


@dataclass
class Finding:
    """One step: how long it took, what was seen, and the error if it failed."""

    step: str
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    trace: str = ""


class Examination:
    """The steps, in order; a step that fails ends it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.spec = ImageSpec(request.prompt, request.side, request.side, request.steps, (1,))
        self.device = devices.find(request.device)
        self.engine: Engine | None = None

    def run(self) -> Iterator[Finding]:
        steps: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
            ("choose a backend", self.choose),
            ("load the model", self.load),
            ("first picture", self.first),
            ("second picture, prompt from memory", self.second),
            ("picture with a LoRA", self.with_lora),
            ("the same LoRA again", self.with_lora),
            ("without it again", self.without),
            ("memory", self.memory),
        ]
        for name, step in steps:
            finding = Finding(name)
            with _reported(finding):
                step(finding.facts)
            yield finding
            if finding.error:
                return

    def choose(self, facts: dict[str, Any]) -> None:
        request = self.request
        host = devices.find("cpu")
        self.engine = backends.create(request.engine, EngineConfig(**request.config), self.device, host)
        facts["backend"] = self.engine.backend

    def load(self, facts: dict[str, Any]) -> None:
        assert self.engine
        self.engine.load()

    def first(self, facts: dict[str, Any]) -> None:
        self.plain = self._draw(self.spec, "plain", facts)

    def second(self, facts: dict[str, Any]) -> None:
        facts["same bytes"] = self._draw(self.spec, "plain", facts) == self.plain

    def with_lora(self, facts: dict[str, Any]) -> None:
        spec = ImageSpec(**{**self.spec.__dict__, "loras": (self._lora(),)})
        facts["differs"] = self._draw(spec, "lora", facts) != self.plain

    def without(self, facts: dict[str, Any]) -> None:
        facts["same bytes"] = self._draw(self.spec, "plain", facts) == self.plain

    def memory(self, facts: dict[str, Any]) -> None:
        facts["process peak GiB"] = _gib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        if self.device.id != "cpu":
            facts["torch peak GiB"] = _gib(torch.cuda.max_memory_reserved())
            # nunchaku allocates beside torch: only the driver sees all of it.
            facts["device GiB in use"] = _gib(self.device.free - devices.find(self.device.id).free)

    def _draw(self, spec: ImageSpec, name: str, facts: dict[str, Any]) -> bytes:
        assert self.engine
        clock = [time.perf_counter()]
        drawn = self.engine.generate(spec, lambda step: clock.append(time.perf_counter()))
        end = time.perf_counter()
        # A GPU works behind the clock: the last mark waits for it, those before may be early.
        facts["until step 1"] = round(clock[1] - clock[0], 3)
        facts["per step"] = round((clock[-1] - clock[1]) / max(len(clock) - 2, 1), 3)
        facts["decoding"] = round(end - clock[-1], 3)
        (image,) = drawn.images
        image.save(Path(self.request.folder) / f"{self.request.engine}-{name}.png")
        return image.tobytes()

    def _lora(self) -> LoraRef:
        if self.request.lora:
            return LoraRef.of(Path(self.request.lora), name="the LoRA")
        path = Path(self.request.folder) / "random.safetensors"
        if not path.exists():
            save_file(random_lora(self.request.config["model"]), path)
        return LoraRef.of(path, name="the random LoRA")


def random_lora(model: str) -> dict[str, torch.Tensor]:
    """A LoRA of rank 4 on every attention layer of ``model``, large enough to be seen in a picture."""
    config = FluxTransformer2DModel.load_config(model, subfolder="transformer")
    with torch.device("meta"):
        shapes = linear_shapes(FluxTransformer2DModel.from_config(config))
    random, tensors = torch.Generator().manual_seed(0), {}
    for name, (out, width) in shapes.items():
        if ".attn.to_" in name:
            tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(4, width, generator=random) * 0.1
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(out, 4, generator=random) * 0.05
    return tensors


@contextmanager
def _reported(finding: Finding) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    except EngineError as error:
        finding.error = str(error)
    except Exception as error:
        finding.error = f"{type(error).__name__}: {error}"
        finding.trace = traceback.format_exc()
    finally:
        finding.seconds = round(time.perf_counter() - start, 3)


def _gib(size: float) -> float:
    return round(size / 1024**3, 2)


def main() -> None:
    request = Request(**json.load(sys.stdin))
    for finding in Examination(request).run():
        sys.stdout.write(json.dumps(asdict(finding)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
