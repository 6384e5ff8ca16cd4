"""What the web process must know about the model that draws, read without loading it."""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class ModelCard:
    """Limits and facts of a FLUX model. Sides are in pixels and multiples of ``side_step``.

    A directory says its own in ``fluxsite.json``; without one the limits of FLUX.1-schnell hold.
    """

    name: str = "FLUX.1-schnell"
    family: str = "flux1"
    demo: bool = False
    min_side: int = 256
    max_side: int = 2048
    max_pixels: int = 4_194_304
    default_side: int = 1024
    max_sequence_length: int = 256
    example_prompts: tuple[str, ...] = (
        "Layered mountain ridges at dusk, low sun behind the second ridge, thin mist in the valleys",
        "Five glazed spheres on mint, soft studio light",
        "A tall lighthouse made of folded paper",
    )
    words: dict[str, list[str]] = field(default_factory=dict, hash=False)
    side_step: int = 16

    @classmethod
    @lru_cache
    def of(cls, model: str) -> "ModelCard":
        """The card of a directory in diffusers layout or of a hub id such as ``owner/name``.

        Raises FileNotFoundError for a path without a model and ValueError for a card that cannot be read.
        """
        directory = Path(model).expanduser()
        if not directory.is_dir():
            if directory.is_absolute() or model.count("/") != 1:
                raise FileNotFoundError("there is no such directory")
            return cls(name=model.partition("/")[2])
        if not (directory / "model_index.json").is_file():
            raise FileNotFoundError("the directory holds no model_index.json")
        card = directory / "fluxsite.json"
        if not card.is_file():
            return cls(name=directory.name)
        return cls._read(card)

    @classmethod
    def _read(cls, card: Path) -> "ModelCard":
        try:
            facts = json.loads(card.read_text())
            facts["example_prompts"] = tuple(facts.get("example_prompts", ()))
            return cls(**facts)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{card.name} cannot be read: {error}") from error

    @property
    def sides(self) -> str:
        """The allowed sides, in words."""
        return f"a multiple of {self.side_step} from {self.min_side} to {self.max_side}"
