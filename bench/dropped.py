"""What reading the settings of a hostile PNG costs, in seconds and MB: ``python -m bench.dropped``.

Any file up to the limit is to be read or refused within 0.5 s and 100 MB.
"""

import contextlib
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable

import PIL.Image

from generation import png_chunks, png_metadata
from generation.png_chunks import UnreadablePicture, made

LORA = {"slug": "a", "name": "a", "sha256": "a", "weight": 1.0}
HEADER = made(b"IHDR", bytes([0, 0, 0, 8, 0, 0, 0, 8, 8, 2, 0, 0, 0]))
END = made(b"IEND", b"")


def png(*chunks: bytes) -> bytes:
    return b"".join((png_chunks.SIGNATURE, HEADER, *chunks, END))


def packed(key: str, value: str) -> bytes:
    return made(b"zTXt", key.encode() + b"\0\0" + zlib.compress(value.encode("latin-1"), 9))


def of_length(part: str, length: int) -> str:
    return (part * (length // len(part) + 1))[:length]


def loras(length: int) -> str:
    some = [LORA] * (length // (len(json.dumps(LORA)) + 2) - 1)
    return json.dumps({"schema": 1, "loras": some})


OURS: png_metadata.Recipe = png_metadata.Recipe("a" * 4000, 1024, 1024, 1, 4, "bf16", "m", "b")
CASES: dict[str, Callable[[], bytes]] = {
    "200 recipes of a million LoRAs' bytes": lambda: png(*[packed("fluxsite", loras(999_000))] * 200),
    "200 recipes of LoRAs, as long as is read": lambda: png(*[packed("fluxsite", loras(99_000))] * 200),
    "200 recipes of open brackets": lambda: png(*[packed("fluxsite", "[" * 999_000)] * 200),
    "200 texts of spaces": lambda: png(*[packed("parameters", " " * 999_000 + "x")] * 200),
    "a text of tags": lambda: png(packed("parameters", of_length("<lora:a:1>", 999_000))),
    "a text of half tags": lambda: png(packed("parameters", of_length("<lora:a:", 999_000))),
    "a text of spaces and commas": lambda: png(packed("parameters", "a" + of_length("  ,", 999_000) + "b")),
    "details without an end": lambda: png(packed("parameters", "Steps: 4" + of_length(', a: "', 999_000))),
    "hashes without an end": lambda: png(
        packed("parameters", "Steps: 4" + of_length(", Hashes: {", 999_000))
    ),
    "resources without an end": lambda: png(
        packed("parameters", "Steps: 4" + of_length(", Civitai resources: [", 999_000))
    ),
    "lines of details": lambda: png(packed("parameters", of_length("Steps: 4\n", 999_000))),
    "20,000 chunks": lambda: png(*[made(b"tEXt", b"k\0v")] * 19_000),
    "32 MB of data": lambda: png(*[made(b"IDAT", bytes(64_000))] * 490),
    "a picture of ours": lambda: png_metadata.encoded(PIL.Image.new("RGB", (1024, 1024)), OURS),
}


def cost(data: bytes) -> tuple[float, float]:
    """Seconds without, and MB with, a look at each allocation."""
    began = time.perf_counter()
    _read(data)
    seconds = time.perf_counter() - began
    tracemalloc.start()
    _read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak / 1e6


def _read(data: bytes) -> None:
    with contextlib.suppress(UnreadablePicture):
        png_metadata.read(data)


def main() -> None:
    print("| file | kB | s | MB |\n|---|---|---|---|")
    for name, make in CASES.items():
        data = make()
        seconds, peak = cost(data)
        print(f"| {name} | {len(data) / 1e3:,.0f} | {seconds:.3f} | {peak:.1f} |")


if __name__ == "__main__":
    main()
