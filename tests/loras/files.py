"""safetensors files that tests make byte by byte: also such as no library would write."""

import json
import math
import struct
from pathlib import Path
from typing import Any

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "U8": 1, "BOOL": 1}
# name: dtype and shape
Tensors = dict[str, tuple[str, tuple[int, ...]]]


def header(tensors: Tensors, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    entries: dict[str, Any] = {"__metadata__": metadata} if metadata is not None else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + SIZES[dtype] * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    return entries


def packed(entries: Any, data: bytes = b"") -> bytes:
    """A file of a header, given as text or as what JSON makes of it, and the bytes after it."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def data_bytes(tensors: Tensors) -> int:
    return sum(SIZES[dtype] * math.prod(shape) for dtype, shape in tensors.values())


def safetensors(tensors: Tensors, metadata: dict[str, Any] | None = None) -> bytes:
    """A whole file; all numbers are zero."""
    return packed(header(tensors, metadata), bytes(data_bytes(tensors)))


def written(folder: Path, content: bytes) -> Path:
    path = folder / "some.safetensors"
    path.write_bytes(content)
    return path


def pair(
    name: str, rows: int, columns: int, rank: int = 1, down: str = "lora_A", up: str = "lora_B"
) -> Tensors:
    """The two halves of a layer's LoRA."""
    return {f"{name}.{down}.weight": ("F16", (rank, columns)), f"{name}.{up}.weight": ("F16", (rows, rank))}


def kohya(name: str, rows: int, columns: int, rank: int = 1) -> Tensors:
    halves = pair(f"lora_unet_{name}", rows, columns, rank, "lora_down", "lora_up")
    return halves | {f"lora_unet_{name}.alpha": ("F16", ())}


def demo_lora(rank: int = 2, blocks: int = 2) -> Tensors:
    names = [f"transformer.transformer_blocks.{n}.attn.to_{part}" for n in range(blocks) for part in "qkv"]
    return {key: facts for name in names for key, facts in pair(name, 192, 192, rank).items()}
