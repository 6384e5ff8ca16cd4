"""PNG files as what they are made of: chunks. Strict, and bounded whatever a file claims.

The format: https://www.w3.org/TR/png-3/
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
# A chunk of text unpacked. The longest that tools write, ComfyUI's workflows, take some 100,000 bytes.
MAX_TEXT = 1_000_000
# Pillow writes 64 KB of data a chunk, others 8 KB at least: of the largest picture taken that is 8,000.
MAX_CHUNKS = 20_000
_IHDR_BYTES = 13


class UnreadablePicture(ValueError):
    """A file is no PNG, is damaged, or says nothing that is understood: the text is a sentence."""


@dataclass(frozen=True)
class Chunk:
    """A chunk of a file: ``kind`` such as ``b"IDAT"``, and the whole of it as it stands there."""

    kind: bytes
    whole: memoryview

    @property
    def data(self) -> memoryview:
        return self.whole[8:-4]


def chunks(png: bytes) -> Iterator[Chunk]:
    """All chunks, from IHDR to IEND; what follows that is no part of the picture.

    Raises UnreadablePicture, perhaps only on the way.
    """
    if not png.startswith(SIGNATURE):
        raise UnreadablePicture("This is not a PNG file. Settings are kept in PNG files only.")
    view, at = memoryview(png), len(SIGNATURE)
    for place in range(MAX_CHUNKS):
        chunk = _chunk(view, at)
        is_header = chunk.kind == b"IHDR" and len(chunk.data) == _IHDR_BYTES
        if is_header != (place == 0):
            raise UnreadablePicture("The file is damaged: a PNG begins with its header, and has one.")
        yield chunk
        if chunk.kind == b"IEND":
            return
        at += len(chunk.whole)
    raise UnreadablePicture(f"The file has more than {MAX_CHUNKS:,} parts; no picture needs so many.")


def _chunk(png: memoryview, at: int) -> Chunk:
    if len(png) < at + 12:
        raise UnreadablePicture("The file is cut off. Copy or download it again.")
    length, kind = struct.unpack_from(">I4s", png, at)
    whole = png[at : at + 12 + length]
    if len(whole) < 12 + length:
        raise UnreadablePicture("The file is cut off. Copy or download it again.")
    if zlib.crc32(whole[4:-4]) != struct.unpack(">I", whole[-4:])[0]:
        raise UnreadablePicture("The file is damaged: a checksum in it is wrong. Copy or download it again.")
    return Chunk(kind, whole)


def made(kind: bytes, data: bytes) -> bytes:
    """A chunk, ready to stand in a file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text(key: str, value: str) -> bytes:
    """A chunk of text: tEXt, which all tools read, where it can hold the value; iTXt, in UTF-8, elsewhere."""
    name = key.encode("latin-1") + b"\0"
    try:
        return made(b"tEXt", name + value.encode("latin-1"))
    except UnicodeEncodeError:
        return utf8_text(key, value)


def utf8_text(key: str, value: str) -> bytes:
    """An iTXt chunk, not compressed, of no language."""
    return made(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + value.encode("utf-8"))


def size(ihdr: Chunk) -> tuple[int, int]:
    """Width and height in pixels."""
    width, height = struct.unpack_from(">II", ihdr.data)
    return width, height


def key_of(chunk: Chunk) -> str:
    """The key of a chunk of text."""
    key = bytes(chunk.data[:80]).partition(b"\0")[0]
    return key.decode("latin-1")


def value_of(chunk: Chunk) -> str:
    """The text of a chunk of text, unpacked. Raises UnreadablePicture."""
    if len(chunk.data) > MAX_TEXT:
        raise _too_long()
    _, _, rest = bytes(chunk.data).partition(b"\0")
    if chunk.kind == b"tEXt":
        return rest.decode("latin-1")
    if chunk.kind == b"zTXt":
        return _unpacked(rest[:1], rest[1:]).decode("latin-1")
    return _international(rest)


def _international(rest: bytes) -> str:
    flag, method = rest[:1], rest[1:2]
    _language, _, translated = rest[2:].partition(b"\0")
    _key, found, value = translated.partition(b"\0")
    if not found or flag not in (b"\0", b"\1"):
        raise UnreadablePicture("The text in the file is damaged.")
    try:
        return (_unpacked(method, value) if flag == b"\1" else value).decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadablePicture("The text in the file is damaged: it is not UTF-8.") from None


def _unpacked(method: bytes, packed: bytes) -> bytes:
    """Text that was compressed. It is unpacked no further than is allowed, however little it takes packed."""
    unpacking = zlib.decompressobj()
    try:
        value = unpacking.decompress(packed, MAX_TEXT + 1)
    except zlib.error:
        raise UnreadablePicture("The text in the file is damaged: it cannot be unpacked.") from None
    if len(value) > MAX_TEXT:
        raise _too_long()
    if method != b"\0" or not unpacking.eof:
        raise UnreadablePicture("The text in the file is damaged: it cannot be unpacked.")
    return value


def _too_long() -> UnreadablePicture:
    return UnreadablePicture(f"A text in the file is longer than {MAX_TEXT:,} bytes; no settings are.")
