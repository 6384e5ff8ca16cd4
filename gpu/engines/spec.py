"""What crosses the border between the job and the engine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class LoraRef:
    """A LoRA file and how strongly it acts. ``sha256`` is the hash of the file, in hex."""

    name: str
    path: Path
    sha256: str
    weight: float


@dataclass(frozen=True)
class ImageSpec:
    """Pictures to draw: one for each seed, alike in everything else. Sides in pixels, multiples of 16."""

    prompt: str
    width: int
    height: int
    steps: int
    seeds: tuple[int, ...]
    loras: tuple[LoraRef, ...] = ()


OnStep = Callable[[int], None]
"""Called after each denoising step with the number of steps done. May raise Cancelled."""


class Engine(Protocol):
    """One model in one precision on one device."""

    name: str

    @property
    def backend(self) -> str:
        """What draws, for the recipe: libraries with their versions, and the precision."""

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""

    def load(self) -> None:
        """Bring the model into memory. Raises ModelFailed."""

    def generate(self, spec: ImageSpec, on_step: OnStep) -> "list[Image]":
        """Draw. Raises EngineError; whatever it raises, the next call starts clean."""

    def unload(self) -> None:
        """Give the memory back."""
