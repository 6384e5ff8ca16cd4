"""The header of a safetensors file, read within bounds: ``safetensors`` itself trusts too much.

A file is 8 bytes N, little-endian; N bytes of JSON, which names each tensor's type, shape and place; and the
tensors' bytes. Format: github.com/huggingface/safetensors, README, "Format". safetensors 0.8.0 accepts
headers that take 20 seconds and gigabytes to parse, duplicate names and tensors without a number in them.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

from gpu.lora_names import shown

# LoRAs of FLUX have at most some 2,000 tensors and, with tag counts of large training sets, some 1 MiB.
MAX_BYTES = 8 * 1024**2
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 4
# Brackets, braces and colons in all: seven for each tensor, and JSON within the metadata's strings.
MAX_PARTS = 12 * MAX_TENSORS

# Bytes of a number, of the types that LoRAs are made of.
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
# Some trainers store alphas as whole numbers.
WHOLE_DTYPES = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
OTHER_FORMATS = {
    rb"PK[\x03\x05]": "This is a ZIP archive, as PyTorch's own checkpoints are. They can run code.",
    rb"\x80[\x00-\x05]": "This is a Python pickle. It can run code.",
    rb"GGUF": "This is a GGUF file.",
    rb"\x89HDF": "This is an HDF5 file.",
    rb"\s*<[!?a-zA-Z]": "This is a web page, perhaps of a download that wanted a log-in.",
    rb"version https://git-lfs": "This is a Git LFS pointer: the file itself was not downloaded.",
}
WANTED = "A LoRA is uploaded as .safetensors."


class Refused(Exception):
    """Why a file cannot be admitted: one or two sentences for the person who uploaded it."""


@dataclass(frozen=True)
class Tensor:
    """``begin`` and ``end`` count bytes from ``Header.data``."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """``data``: where in the file the tensors' bytes begin."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    data: int


def read(file: BinaryIO, size: int) -> Header:
    """The header of a file of ``size`` bytes. Raises Refused; takes less than a second and 100 MB."""
    start = file.read(32)
    for magic, sentence in OTHER_FORMATS.items():
        # The length of a header may begin like any of them; JSON follows after its 8 bytes.
        if re.match(magic, start) and start[8:9] != b"{":
            raise Refused(f"{sentence} {WANTED}")
    if not start:
        raise Refused("The file is empty.")
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or not 2 <= length <= size - 8:
        raise Refused(f"This is no safetensors file, or its beginning or end is missing. {WANTED}")
    if length > MAX_BYTES:
        raise Refused(f"The header takes {length:,} bytes; at most {MAX_BYTES:,} are read.")
    file.seek(8)
    entries = _json(file.read(length))
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Refused("The header's metadata are not all text.")
    if not entries:
        raise Refused("There is nothing in the file: it names no tensor.")
    if len(entries) > MAX_TENSORS:
        raise Refused(f"The header names {len(entries):,} tensors; at most {MAX_TENSORS:,} are read.")
    tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
    _check_places(tensors, size - 8 - length)
    return Header(tensors, metadata, 8 + length)


def _json(text: bytes) -> dict[str, Any]:
    if sum(map(text.count, (b"[", b"{", b":"))) > MAX_PARTS:
        raise Refused(f"The header has too many parts. At most {MAX_TENSORS:,} tensors are read.")

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise Refused("The header names something twice.")
        return entries

    try:
        entries = json.loads(text.decode(), object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError) as error:
        raise Refused("The header is damaged: it is not JSON.") from error
    if not isinstance(entries, dict):
        raise Refused("The header is damaged: it is no list of tensors.")
    return entries


def _tensor(name: str, entry: Any) -> Tensor:
    if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,256}", name):
        raise Refused(f"A tensor has a name that no model's part has: {shown(name)}.")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Refused(f"The header is damaged: {shown(name)} lacks its type, shape or place.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (_whole_numbers(shape) and _whole_numbers(offsets) and len(offsets) == 2):
        raise Refused(f"The header is damaged: the shape or place of {shown(name)} are no whole numbers.")
    if len(shape) > MAX_DIMENSIONS:
        raise Refused(f"{shown(name)} has {len(shape):,} dimensions; at most {MAX_DIMENSIONS} make sense.")
    if 0 in shape:
        raise Refused(f"{shown(name)} is empty.")
    sizes = DTYPES | (WHOLE_DTYPES if name.endswith(".alpha") else {})
    if not isinstance(dtype, str) or dtype not in sizes:
        raise Refused(f"{shown(name)} is of type {shown(str(dtype))}; a LoRA has {', '.join(DTYPES)}.")
    begin, end = offsets
    if end - begin != math.prod(shape) * sizes[dtype]:
        raise Refused(f"The header is damaged: {shown(name)} has not the size that its shape needs.")
    return Tensor(dtype, tuple(shape), begin, end)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _check_places(tensors: dict[str, Tensor], size: int) -> None:
    """Every byte belongs to one tensor: nothing overlaps, nothing is left over to hide something in."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].begin):
        if tensor.begin != end:
            what = "overlap" if tensor.begin < end else "leave a gap"
            raise Refused(f"The file is damaged: its tensors {what} before {shown(name)}.")
        end = tensor.end
    if end > size:
        raise Refused(f"The end of the file is missing: {end - size:,} bytes. Upload it again.")
    if end < size:
        raise Refused(f"{size - end:,} bytes at the end of the file belong to no tensor.")
