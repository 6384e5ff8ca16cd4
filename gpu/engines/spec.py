"""What crosses the border between the job and the engine."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class LoraRef:
    """A LoRA file and how strongly it acts. ``sha256`` is the hash of the file, in hex.

    ``modules``: how many of the model it must change, where somebody has looked into the file before.
    """

    name: str
    path: Path
    sha256: str
    weight: float
    modules: int | None = None

    @classmethod
    def of(cls, path: Path, weight: float = 1.0, name: str = "") -> Self:
        """A file as it is now. Raises OSError."""
        with path.open("rb") as file:
            return cls(name or path.stem, path, hashlib.file_digest(file, "sha256").hexdigest(), weight)


@dataclass(frozen=True)
class ImageSpec:
    """Pictures to draw: one for each seed, alike in everything else. Sides in pixels, multiples of 16.

    ``vae_tiling`` decodes in tiles: less memory, and faintly different pixels where tiles meet.
    """

    prompt: str
    width: int
    height: int
    steps: int
    seeds: tuple[int, ...]
    loras: tuple[LoraRef, ...] = ()
    vae_tiling: bool = False


@dataclass(frozen=True)
class Drawn:
    """The pictures of a spec, in the order of its seeds, and how they came about.

    ``batch_size``: how many were denoised together. ``vae_tiling``: whether they were decoded in tiles.
    ``unread``: the end of the prompt, where it is longer than the model reads.
    """

    images: "tuple[Image, ...]"
    batch_size: int = 1
    vae_tiling: bool = False
    unread: str = ""


@dataclass(frozen=True)
class EngineConfig:
    """What an engine draws with, and how much it keeps in memory between jobs.

    ``model``: a directory in diffusers layout or a hub id. ``max_sequence_length``: T5 tokens read of a
    prompt; it is part of what is drawn. ``adapters`` and ``adapter_bytes`` bound the LoRAs kept ready,
    ``prompts`` the encoded prompts. ``nunchaku_transformer`` (its ``{precision}`` becomes int4 or fp4) and
    ``nunchaku_t5`` are files, or hub ids followed by a file name.
    """

    model: str
    max_sequence_length: int
    adapters: int = 8
    adapter_bytes: int = 2 * 1024**3
    prompts: int = 32
    nunchaku_transformer: str = (
        "nunchaku-tech/nunchaku-flux.1-schnell/svdq-{precision}_r32-flux.1-schnell.safetensors"
    )
    nunchaku_t5: str = "mit-han-lab/nunchaku-t5/awq-int4-flux.1-t5xxl.safetensors"


@dataclass(frozen=True)
class Held:
    """Memory that an engine holds on its device, in bytes: without LoRAs, and for the LoRAs kept ready.

    ``sha256``: of the files of these LoRAs. On the CPU ``model`` is all that the process holds.
    """

    model: int = 0
    loras: int = 0
    sha256: frozenset[str] = frozenset()


OnStep = Callable[[int], None]
"""Called after each denoising step with the number of steps done. May raise Cancelled."""


class Engine(Protocol):
    """One model in one precision on one device."""

    name: ClassVar[str]

    @property
    def backend(self) -> str:
        """What draws, for the recipe: libraries with their versions, and the precision."""

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""

    def load(self) -> None:
        """Bring the model into memory. Raises ModelFailed or DeviceFailed."""

    def batch_size(self, width: int, height: int) -> int:
        """How many pictures of this size are drawn faster together than one by one."""

    def generate(self, spec: ImageSpec, on_step: OnStep) -> Drawn:
        """Draw. Raises EngineError; whatever it raises but DeviceFailed, the next call starts clean."""

    def held(self) -> Held:
        """What it holds in memory now. May be called from another thread."""

    def unload(self) -> None:
        """Give the memory back."""
