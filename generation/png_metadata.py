"""What a picture says of itself: its recipe, twice, and that a machine drew it.

- ``parameters``: the recipe as A1111 writes it, for Civitai and other tools.
- ``fluxsite``: the recipe as JSON, whole; what a picture dropped here is read from.
- ``XML:com.adobe.xmp``: IPTC's mark for pictures of generative models (EU AI Act, Art. 50). It always stays.

Knows no database: bytes and recipes in, bytes and recipes out.
"""

import io
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import PIL.Image

from generation import infotext, png_chunks
from generation.infotext import Infotext, Tag
from generation.png_chunks import Chunk, UnreadablePicture

SCHEMA = 1
# Of a file that is read. The largest picture drawn here, 4 megapixels of noise, takes 13 MB.
MAX_FILE = 32_000_000
# Texts of one key that are looked at. Programs write one; each further one costs as much to read.
MAX_TRIED = 3
# Of our JSON. The longest that is written, 4,000 characters of 12 bytes each and 8 LoRAs, has some 55,000.
MAX_RECIPE = 100_000
# PNG level 1 is about 4 times as fast as the default 6, and the GPU waits meanwhile.
PNG_LEVEL = 1
SAMPLER = "Euler"
AI_MARK = """\
<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
   Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
_MARK = png_chunks.utf8_text("XML:com.adobe.xmp", AI_MARK)
# Chunks that may tell more than the pixels do.
_TELLING = (*png_chunks.TEXT_KINDS, b"eXIf", b"tIME")
# Other programs' keys, to say whose settings those are that are not read.
_FOREIGN = {
    "workflow": "ComfyUI", "prompt": "ComfyUI", "invokeai_metadata": "InvokeAI", "Comment": "NovelAI",
    "sd-metadata": "InvokeAI", "fooocus_scheme": "Fooocus",
}  # fmt: skip


@dataclass(frozen=True)
class RecipeLora:
    """A LoRA of a picture. ``sha256``: of its file."""

    slug: str
    name: str
    sha256: str
    weight: float


@dataclass(frozen=True)
class Recipe:
    """Everything that one picture was drawn from, and how. Sides in pixels; ``seed`` is this picture's own.

    ``batch_size``: pictures drawn together with it. ``demo``: by the demo model, which draws simple shapes.
    """

    prompt: str
    width: int
    height: int
    seed: int
    steps: int
    engine: str
    model: str
    backend: str
    batch_size: int = 1
    vae_tiling: bool = False
    demo: bool = False
    loras: tuple[RecipeLora, ...] = ()

    @property
    def as_infotext(self) -> str:
        """The recipe as other tools read it. A LoRA is known by its AutoV2, 10 digits of its sha256."""
        tags = [Tag(lora.slug, lora.weight, lora.sha256[:10]) for lora in self.loras]
        details = {
            "Steps": self.steps, "Sampler": SAMPLER, "CFG scale": 1, "Seed": self.seed,
            "Size": f"{self.width}x{self.height}", "Model": self.model,
        }  # fmt: skip
        return infotext.written(self.prompt, tags, details)

    @property
    def as_json(self) -> str:
        """In ASCII: every character of a prompt stays what it is in any kind of chunk."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, separators=(",", ":"))


@dataclass(frozen=True)
class Found:
    """What a file says of itself. Nothing of it is checked: it may be out of any range, and a lie.

    ``recipe``: ours, or None where another program wrote the file and ``infotext`` holds what it says.
    ``width, height``: of the picture itself.
    """

    width: int
    height: int
    recipe: Recipe | None = None
    infotext: Infotext | None = None


# Writing --------------------------------------------------------------------------------------------


def encoded(image: PIL.Image.Image, recipe: Recipe) -> bytes:
    """The picture as PNG with its recipe. The same pixels and recipe give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL)
    texts = png_chunks.text("parameters", recipe.as_infotext) + png_chunks.text("fluxsite", recipe.as_json)
    return _with(buffer.getvalue(), _MARK + texts)


def without_recipe(png: bytes) -> bytes:
    """The same picture with the AI mark as its only text; its pixels' chunks are the same bytes.

    Raises UnreadablePicture for what is no whole PNG.
    """
    return _joined([chunk for chunk in png_chunks.chunks(png) if chunk.kind not in _TELLING], _MARK)


def _with(png: bytes, texts: bytes) -> bytes:
    return _joined(list(png_chunks.chunks(png)), texts)


def _joined(chunks: list[Chunk], texts: bytes) -> bytes:
    """A file of these chunks, with texts where readers look first: before the pixels."""
    ihdr, *others = chunks
    return b"".join((png_chunks.SIGNATURE, ihdr.whole, texts, *(chunk.whole for chunk in others)))


# Reading --------------------------------------------------------------------------------------------


def read(png: bytes) -> Found:
    """What a PNG says of itself: our own recipe if it has one, or else A1111's parameters.

    Raises UnreadablePicture with a sentence, and nothing else, whatever the bytes are.
    """
    if len(png) > MAX_FILE:
        raise UnreadablePicture(f"The file is larger than {MAX_FILE // 10**6} MB.")
    chunks = [chunk for chunk in png_chunks.chunks(png) if chunk.kind != b"IDAT"]
    texts = [(png_chunks.key_of(chunk), chunk) for chunk in chunks if chunk.kind in png_chunks.TEXT_KINDS]
    width, height = png_chunks.size(chunks[0])
    for chunk in _of_key("fluxsite", texts):
        if recipe := _recipe(png_chunks.value_of(chunk)):
            return Found(width, height, recipe)
    for chunk in _of_key("parameters", texts):
        return Found(width, height, infotext=_infotext(png_chunks.value_of(chunk)))
    raise UnreadablePicture(_nothing_found({key for key, _ in texts}))


def _of_key(wanted: str, texts: list[tuple[str, Chunk]]) -> list[Chunk]:
    """The first texts of a key: what reading a file costs is bounded by its number of texts, too."""
    return [chunk for key, chunk in texts if key == wanted][:MAX_TRIED]


def _nothing_found(keys: set[str]) -> str:
    program = next((program for key, program in _FOREIGN.items() if key in keys), None)
    if program:
        return f"The picture's settings are {program}'s own, which are not read here."
    return "The picture holds no settings. Many programs and sites take them out: use the file as drawn."


def _infotext(text: str) -> Infotext:
    if text.lstrip().startswith('{"'):  # SwarmUI and Fooocus write JSON under this key
        raise UnreadablePicture("The picture's settings are SwarmUI's or Fooocus's, which are not read here.")
    return infotext.read(text)


def _recipe(text: str) -> Recipe | None:
    """The recipe in our JSON; None where it is not what we write. A later schema may say more, not other."""
    if len(text) > MAX_RECIPE:
        return None
    try:
        told = json.loads(text)
        loras = tuple(RecipeLora(**_typed(one, RecipeLora)) for one in told["loras"])
        return replace(Recipe(**_typed(told, Recipe)), loras=loras)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _typed(told: Any, kind: type) -> dict[str, Any]:
    """Of a JSON object the fields of ``kind``. Raises TypeError where one is of another type."""
    if not isinstance(told, dict):
        raise TypeError("not an object")
    types = kind.__annotations__
    fields = {name: value for name, value in told.items() if name in types and name != "loras"}
    for name, value in fields.items():
        if types[name] is float and type(value) is int:
            fields[name] = value = float(value)
        if type(value) is not types[name] or not _is_sound(value):
            raise TypeError(f"{name} is no {types[name].__name__}")
    return fields


def _is_sound(value: Any) -> bool:
    """Whether a database and a page can hold it: JSON also has NaN, halves of characters, endless numbers."""
    if isinstance(value, str):
        return infotext.cleaned(value) == value
    return math.isfinite(value) and abs(value) < 2**63
