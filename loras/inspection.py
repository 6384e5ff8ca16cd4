"""What a LoRA file is: for which model, in which layout, how large, how it was made. Without torch.

Whether the engines can use it in the end, only a trial shows (``loras.trials``); whatever certainly cannot
work is refused here, in a sentence.
"""

import hashlib
import json
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from gpu import lora_names
from gpu.lora_names import shown
from loras import header
from loras.header import Header, Refused, Tensor

Layers = dict[str, dict[str, Tensor]]

CHUNK = 4 * 1024**2  # bytes; a multiple of each number's size
DEMO_WIDTH = 192  # demo/model/transformer/config.json: 6 heads of 32
FLUX_WIDTH = 3072
# Rows and columns where FLUX.2 Klein 4B, as wide as FLUX.1, differs from it; and the channels both read.
FLUX_SIZES = {"single_blocks.#.linear1": (21504, 3072), "double_blocks.#.img_mlp.0": (12288, 3072)}
FLUX_CONTEXT, DEMO_CONTEXT, LATENT_CHANNELS = 4096, 64, 64
FLUX_DOUBLE_BLOCKS = 19

CANNOT = {
    "flux1": "This LoRA is for FLUX.1, which is larger.",
    "flux2": "This is a FLUX.2 LoRA: its layers have other names or sizes than those of FLUX.1.",
    "sd15": "This is a Stable Diffusion 1.5 LoRA: its modules address a UNet.",
    "sdxl": "This is an SDXL LoRA: its modules address a UNet.",
    "sd3": "This is a Stable Diffusion 3 LoRA: its layers have other sizes than those of FLUX.1.",
    "wan": "This is a LoRA for Wan, which makes videos.",
    "qwen-image": "This is a LoRA for Qwen-Image: its blocks are those of another transformer.",
    "demo": "This LoRA is for fluxsite's demo model, which is much smaller.",
    "unknown": "No known model has the layers of this LoRA.",
}
KINDS = {"DoRA": "dora", "LoKr": "lokr", "LoHa": "loha", "control": "control"}

# Infinite or no number: all bits of the exponent are set. F8_E4M3 has no infinity and one NaN.
NOT_FINITE = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F8_E4M3": ("u1", 0x7F),
    "F8_E5M2": ("u1", 0x7C),
}
SCALARS = {
    "F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B",
}  # fmt: skip
TRAINING = (
    "ss_output_name", "ss_network_module", "ss_optimizer", "ss_learning_rate", "ss_steps",
    "ss_max_train_steps", "ss_epoch", "ss_num_train_images", "ss_resolution", "ss_training_finished_at",
    "modelspec.date", "modelspec.author", "modelspec.license", "modelspec.resolution",
)  # fmt: skip
BASE_MODEL = ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name", "base_model")
TRIGGERS = ("modelspec.trigger_phrase", "trigger_words", "trigger_word")
MOST_TAGS, MOST_TRIGGERS, MOST_LETTERS = 50, 20, 200


@dataclass(frozen=True)
class Range:
    """Of a number that differs from layer to layer: the commonest, and the limits."""

    mode: float
    low: float
    high: float


@dataclass(frozen=True)
class Inspection:
    """The facts of a file. ``size`` is in bytes, ``modules`` counts the layers of each kind of block.

    ``changes`` is how many modules of the model they change: one layer of a file may be for q, k and v.
    ``reason`` says why the file is not ``admissible``. ``auto_v2`` and ``auto_v3`` are the names by which
    Civitai and others know a file: the first 10 digits of sha256, and sha256 of what follows the header.
    """

    size: int
    sha256: str = ""
    auto_v2: str = ""
    auto_v3: str = ""
    family: str = "unknown"
    layout: str = ""
    kind: str = "lora"
    rank: Range | None = None
    alpha: Range | None = None
    dtype: str = ""
    tensors: int = 0
    modules: dict[str, int] = field(default_factory=dict)
    changes: int = 0
    text_encoders: list[str] = field(default_factory=list)
    title: str = ""
    base_model: str = ""
    trigger_words: list[str] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)
    training: dict[str, str] = field(default_factory=dict)
    admissible: bool = False
    reason: str = ""


def inspect(path: Path, family: str, model: str) -> Inspection:
    """The facts of the file at ``path``, and whether a studio that draws with ``model`` admits it.

    ``family``: the model's. Hostile files are answered too: in less than a second and 100 MB beyond the time
    that hashing takes. Raises OSError.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        facts = Inspection(size)
        try:
            read = header.read(file, size)
            facts = _described(facts, read, file)
            _refuse(facts, family, model)
            reason = ""
        except Refused as refused:
            read, reason = None, str(refused)
        return _hashed(facts, file, read, reason)


def _described(facts: Inspection, read: Header, file: BinaryIO) -> Inspection:
    layers = _layers(read.tensors)
    kind = next(filter(None, map(lora_names.other_kind, read.tensors)), "")
    family = _family(layers) if layers else "unknown"
    if family in ("flux1", "demo") and _reads_a_picture(layers):
        kind = "a control LoRA"
    return replace(
        facts,
        family=family,
        layout=_layout(read.tensors),
        kind=next((short for word, short in KINDS.items() if word in kind), "lora"),
        rank=_range(parts["A"].shape[0] for parts in layers.values() if "A" in parts),
        alpha=_range(_alphas(read, file)),
        dtype=Counter(tensor.dtype for tensor in read.tensors.values()).most_common(1)[0][0],
        tensors=len(read.tensors),
        modules=_modules(layers),
        changes=len(set(_changed(layers))),
        text_encoders=_text_encoders(layers),
        **_said(read.metadata),
    )


def _refuse(facts: Inspection, family: str, model: str) -> None:
    """Raises Refused for what certainly cannot work."""
    if facts.kind != "lora":
        name = {"dora": "DoRA", "lokr": "LoKr", "loha": "LoHa", "control": "control LoRA"}[facts.kind]
        raise Refused(f"This is a {name}; only plain LoRAs can be used.")
    if not facts.rank:
        raise Refused("There is no LoRA in the file: none of its tensors is half of one.")
    if facts.family != family:
        raise Refused(f"{CANNOT[facts.family]} It cannot work on {model}.")


def _hashed(facts: Inspection, file: BinaryIO, read: Header | None, reason: str) -> Inspection:
    """The facts with the hashes, all of the file read once; and whether all its numbers are finite."""
    whole, data, start = hashlib.sha256(), hashlib.sha256(), read.data if read else 0
    file.seek(0)
    whole.update(file.read(start))
    pieces = _pieces(read) if read else ()
    for name, tensor, length in pieces:
        chunk = file.read(length)
        whole.update(chunk)
        data.update(chunk)
        if not reason and not _finite(chunk, tensor.dtype):
            reason = f"The weights of {shown(name)} are not all finite numbers. Its training may have failed."
    while chunk := file.read(CHUNK):
        whole.update(chunk)
    sha256 = whole.hexdigest()
    auto_v3 = data.hexdigest() if read else ""
    return replace(
        facts, sha256=sha256, auto_v2=sha256[:10], auto_v3=auto_v3, admissible=not reason, reason=reason
    )


def _pieces(read: Header) -> Iterator[tuple[str, Tensor, int]]:
    for name, tensor in sorted(read.tensors.items(), key=lambda item: item[1].begin):
        for begin in range(tensor.begin, tensor.end, CHUNK):
            yield name, tensor, min(CHUNK, tensor.end - begin)


def _finite(chunk: bytes, dtype: str) -> bool:
    import numpy  # 16 MB that a web process needs only once somebody uploads

    if dtype not in NOT_FINITE:
        return True
    kind, exponent = NOT_FINITE[dtype]
    numbers = numpy.frombuffer(chunk, kind)
    return not bool(((numbers & exponent) == exponent).any())


# The layers ---------------------------------------------------------------------------------------------


def _layers(tensors: dict[str, Tensor]) -> Layers:
    layers: Layers = {}
    for key, tensor in tensors.items():
        layer, part = lora_names.part(key)
        if part:
            layers.setdefault(layer, {})[part] = tensor
    layers = {layer: parts for layer, parts in layers.items() if parts.keys() != {"alpha"}}
    for layer, parts in layers.items():
        if missing := {"A", "B"} - parts.keys():
            raise Refused(f"The file is incomplete: the half {missing.pop()} of {shown(layer)} is missing.")
        down, up = parts["A"].shape, parts["B"].shape
        if min(len(down), len(up)) < 2 or down[0] != up[1]:
            raise Refused(f"The file is damaged: the halves of {shown(layer)} do not fit together.")
    return layers


def _family(layers: Layers) -> str:
    names = "\n".join(layers)
    if re.search(r"\bblocks[._]\d+[._](self|cross)_attn|_blocks_\d+_(self|cross)_attn", names):
        return "wan"
    if re.search(r"(double|single)_stream_modulation|to_qkv_mlp_proj", names):
        return "flux2"
    if re.search(r"(down|up|mid|input|output|middle)_blocks?[._]", names):
        return _unet(layers, names)
    if re.search(r"(img|txt)_mlp[._]net|(img|txt)_mod[._]1", names):
        return "qwen-image"
    if "joint_blocks" in names:
        return "sd3"
    places = {layer: place for layer in layers if (place := lora_names.place(layer))}
    width = _width(
        layers, {layer: modules for layer, (part, modules) in places.items() if part == "transformer"}
    )
    if width == FLUX_WIDTH:
        return _of_flux_width(layers, names)
    return {DEMO_WIDTH: "demo", 1536: "sd3", 2432: "sd3", 4096: "flux2", 6144: "flux2"}.get(width, "unknown")


def _unet(layers: Layers, names: str) -> str:
    """SD 1.5 reads texts of 768 numbers a word, SDXL of 2048. Without such a layer, by the deeper blocks."""
    contexts = {parts["A"].shape[1] for name, parts in layers.items() if re.search(r"attn2[._]to_[kv]", name)}
    if 2048 in contexts or re.search(r"lora_te2_|text_encoder_2\.", names):
        return "sdxl"
    if 768 in contexts:
        return "sd15"
    blocks = re.findall(r"transformer_blocks[._](\d+)", names)
    return "sdxl" if max(map(int, blocks), default=0) > 0 else "unknown"


def _width(layers: Layers, places: dict[str, lora_names.Modules]) -> int:
    """How many numbers a token has in the transformer, as most of the layers say."""
    widths = Counter(
        layers[layer]["B"].shape[0] if _leads_back(modules[0]) else layers[layer]["A"].shape[1]
        for layer, modules in places.items()
    )
    return widths.most_common(1)[0][0] if widths else 0


def _leads_back(module: str) -> bool:
    return bool(re.search(r"ff(_context)?\.net\.2$|single.*\.proj_out$|_embedder(\.linear_\d)?$", module))


def _of_flux_width(layers: Layers, names: str) -> str:
    blocks = re.findall(r"(?<!single_)transformer_blocks[._](\d+)", names)
    if max(map(int, blocks), default=0) >= FLUX_DOUBLE_BLOCKS:
        return "qwen-image"
    for layer, parts in layers.items():
        rows, columns = parts["B"].shape[0], parts["A"].shape[1]
        for name, size in FLUX_SIZES.items():
            if (
                re.search(name.replace(".", "[._]").replace("#", r"\d+") + "$", layer)
                and (rows, columns) != size
            ):
                return "flux2"
        if re.search(r"(context_embedder|txt_in)$", layer) and columns != FLUX_CONTEXT:
            return "flux2"
    return "flux1"


def _reads_a_picture(layers: Layers) -> bool:
    """Its first layer has more channels than a picture that is drawn from noise alone."""
    return any(
        re.search(r"(x_embedder|img_in)$", layer) and parts["A"].shape[1] > LATENT_CHANNELS
        for layer, parts in layers.items()
    )


def _layout(names: Iterable[str]) -> str:
    patterns = {
        "kohya": r"lora_(unet|te\d?|transformer)_",
        "xlabs": r".*blocks\.\d+\.processor\.",
        "ai-toolkit": r"diffusion_model\.",
        "diffusers": r"(base_model\.model\.)?(transformer|unet|text_encoder(_2)?)\.|.*\.lora_[AB]\.",
    }
    found = Counter(
        next((layout for layout, pattern in patterns.items() if re.match(pattern, name)), "")
        for name in names
    )
    return found.most_common(1)[0][0]


def _modules(layers: Layers) -> dict[str, int]:
    kinds = {
        "text encoder": r"lora_te\d?_|text_encoder",
        "single": r".*single_(transformer_)?blocks",
        "double": r".*(double|transformer)_blocks",
    }
    counts = Counter(
        next((kind for kind, pattern in kinds.items() if re.match(pattern, layer)), "other")
        for layer in layers
    )
    return {kind: counts[kind] for kind in ("double", "single", "text encoder", "other") if counts[kind]}


def _changed(layers: Layers) -> Iterator[tuple[str, str]]:
    """Component and name of each module of the model."""
    for component, modules in filter(None, map(lora_names.place, layers)):
        for module in modules:
            yield component, module


def _text_encoders(layers: Layers) -> list[str]:
    patterns = {
        "CLIP": r"lora_te1?_|text_encoder\.|text_encoders\.clip_l",
        "T5": r"lora_te[23]_encoder|text_encoder_2\.encoder|text_encoders\.t5xxl",
    }
    return [name for name, pattern in patterns.items() if any(re.match(pattern, layer) for layer in layers)]


def _range(numbers: Iterable[float]) -> Range | None:
    counts = Counter(numbers)
    return Range(counts.most_common(1)[0][0], min(counts), max(counts)) if counts else None


def _alphas(read: Header, file: BinaryIO) -> Iterator[float]:
    for name, tensor in read.tensors.items():
        if not name.endswith(".alpha"):
            continue
        if tensor.shape not in ((), (1,)):
            raise Refused(f"The file is damaged: {shown(name)} is not one number.")
        file.seek(read.data + tensor.begin)
        number = file.read(tensor.end - tensor.begin)
        if tensor.dtype == "BF16":
            (value,) = struct.unpack("<f", b"\0\0" + number)
        elif tensor.dtype in SCALARS:
            (value,) = struct.unpack(SCALARS[tensor.dtype], number)
        else:
            continue
        if not abs(value) < float("inf"):
            raise Refused(f"The file is damaged: {shown(name)} is not a finite number.")
        yield float(value)


# What the metadata say ----------------------------------------------------------------------------------


def _said(metadata: dict[str, str]) -> dict[str, Any]:
    texts = {name: _text(value) for name, value in metadata.items() if name != "ss_tag_frequency"}
    words = next((texts[name] for name in TRIGGERS if texts.get(name)), "")
    return {
        "title": texts.get("modelspec.title") or texts.get("ss_output_name") or "",
        "base_model": next((texts[name] for name in BASE_MODEL if texts.get(name)), ""),
        "trigger_words": [word.strip() for word in words.split(",") if word.strip()][:MOST_TRIGGERS],
        "tags": _tags(metadata.get("ss_tag_frequency", "")),
        "training": {name: texts[name] for name in TRAINING if texts.get(name) not in (None, "", "None")},
    }


def _text(value: str) -> str:
    """Of a stranger: short, and without what no database or page can hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in value[:MOST_LETTERS]).split())


def _tags(frequencies: str) -> dict[str, int]:
    """kohya's ``{"folder": {"tag": count}}``, the commonest tags first."""
    try:
        folders = json.loads(frequencies or "{}")
    except (ValueError, RecursionError):
        return {}
    counts: Counter[str] = Counter()
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int and 0 < count < 2**53 and (text := _text(tag)):
                counts[text] += count
    return dict(counts.most_common(MOST_TAGS))
