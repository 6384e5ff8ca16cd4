"""How many parameters a model has, read without loading it."""

import json
import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

# What the safetensors library itself accepts.
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class ModelSize:
    """Parameters, not bytes. ``rest``: the CLIP text encoder and the VAE."""

    transformer: int
    t5: int
    rest: int

    @property
    def total(self) -> int:
        return self.transformer + self.t5 + self.rest

    @classmethod
    @lru_cache
    def of(cls, model: str) -> "ModelSize":
        """The size of a directory in diffusers layout; a hub id is taken for FLUX.1-schnell.

        Raises FileNotFoundError where there are no weights, ValueError for a file that is not safetensors.
        """
        directory = Path(model).expanduser()
        if not directory.is_dir():
            return FLUX_SCHNELL
        if (told := directory / "shared.json").exists():  # its weights may not be on this host yet
            return cls(**json.loads(told.read_text())["parameters"])
        return cls(
            transformer=_parameters(directory / "transformer"),
            t5=_parameters(directory / "text_encoder_2"),
            rest=_parameters(directory / "text_encoder") + _parameters(directory / "vae"),
        )


# Counted from the architectures in diffusers 0.42.1 and transformers 5.23.
# The rest: 123,060,480 of CLIP and 83,819,683 of the VAE.
FLUX_SCHNELL = ModelSize(transformer=11_891_178_560, t5=4_762_310_656, rest=206_880_163)


def _parameters(folder: Path) -> int:
    # By name: a folder may hold the same tensors twice, in another precision.
    shapes = {name: shape for path in sorted(folder.glob("*.safetensors")) for name, shape in _shapes(path)}
    if not shapes:
        raise FileNotFoundError(f"{folder.name} holds no safetensors file")
    return sum(math.prod(shape) for shape in shapes.values())


def _shapes(path: Path) -> list[tuple[str, list[int]]]:
    try:
        with path.open("rb") as file:
            header = _header(file)
        return [(name, entry["shape"]) for name, entry in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.parent.name}/{path.name} is not a safetensors file: {error}") from error


def _header(file: BinaryIO) -> Any:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header would be {length} bytes long")
    header = file.read(length)
    if len(header) < length:
        raise ValueError("it is cut off")
    return json.loads(header)
