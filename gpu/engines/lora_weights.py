"""One form for a LoRA, whatever program wrote the file; checked before the model is touched.

``FluxPipeline.lora_state_dict`` of diffusers 0.42.1 is a converter too. It is not used, because it
- drops what it cannot apply (DoRA scales, T5 layers, diffs, unknown layers), and says so in a log at most;
- gives names that no model has, so that they are not applied, to "diffusion_model.double_blocks.0…lora_A", to
  "img_in" and its like of kohya files, and to all but the attention of "lora_transformer_…";
- ignores the alphas of ``final_layer``, never comes back from a negative one, and takes full-size FLUX only.
Here every tensor of the file ends up in the result, or changes nothing, or is an error.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from gpu import lora_names
from gpu.engines.errors import LoraFailed
from gpu.engines.spec import LoraRef
from gpu.lora_names import Modules, shown

Pair = tuple[torch.Tensor, torch.Tensor]
Shape = tuple[int, int]
Parts = dict[str, torch.Tensor]
Config = dict[str, Any]


@dataclass(frozen=True)
class LoraWeights:
    """What a LoRA adds to the weight of each module: ``B @ A``, of A (rank, in) and B (out, rank).

    ``transformer`` goes by diffusers' module names, ``text_encoder`` (CLIP) by those of transformers 5:
    "encoder.layers.0.self_attn.q_proj", without the "text_model." that they began with before.
    """

    transformer: dict[str, Pair]
    text_encoder: dict[str, Pair]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """As ``pipeline.load_lora_weights`` of diffusers and ``compose_lora`` of nunchaku take it."""
        return {
            f"{component}.{module}.lora_{letter}.weight": tensor
            for component, pairs in (("transformer", self.transformer), ("text_encoder", self.text_encoder))
            for module, pair in pairs.items()
            for letter, tensor in zip("AB", pair, strict=True)
        }

    @property
    def modules(self) -> int:
        """How many of the model it changes."""
        return len(self.transformer) + len(self.text_encoder)

    @property
    def nbytes(self) -> int:
        """Memory that it takes in a model, where each module has its own A; here q, k and v may share one."""
        return sum(tensor.nbytes for tensor in self.state_dict().values())


def read(lora: LoraRef) -> LoraWeights:
    """Raises LoraFailed, also where the file is not the one of ``lora.sha256``."""
    try:
        if LoraRef.of(lora.path).sha256 != lora.sha256:
            raise LoraFailed(
                f"{lora.name} could not be read: its file was changed after it was uploaded. Upload it again."
            )
        with safe_open(lora.path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, torch.Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise LoraFailed(f"{lora.name} could not be read: its file is missing or unreadable.") from error
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:  # torch's, for absurd shapes
        raise LoraFailed(f"{lora.name} could not be read: its file is damaged, or no safetensors.") from error
    try:
        weights = _canonical(tensors, metadata)
    except _Unfit as unfit:
        raise LoraFailed(f"{lora.name} cannot be used: {unfit}.") from unfit
    if lora.modules not in (None, weights.modules):
        raise LoraFailed(
            f"{lora.name} cannot be used: its file promises to change {lora.modules} modules of the model, "
            f"and {weights.modules} were read from it."
        )
    return weights


def check(
    weights: LoraWeights, name: str, transformer: Mapping[str, Shape], text_encoder: Mapping[str, Shape]
) -> None:
    """Whether the LoRA called ``name`` fits a model of these ``linear_shapes``. Raises LoraFailed."""
    fits = [(module, pair, transformer.get(module)) for module, pair in weights.transformer.items()]
    fits += [(module, pair, text_encoder.get(module)) for module, pair in weights.text_encoder.items()]
    if missing := [module for module, _, shape in fits if shape is None]:
        some = _some(missing, len(fits))
        raise LoraFailed(f"{name} cannot be used: {some} not in this model ({missing[0]}).")
    for module, (down, up), shape in fits:
        if shape and shape != (has := (up.shape[0], down.shape[1])):
            raise LoraFailed(f"{name} cannot be used: {_misfit(module, has, shape)}.")


def linear_shapes(module: nn.Module) -> dict[str, Shape]:
    """(out, in) of every linear layer, quantised or not, by the name it has without peft's adapters."""
    # The weight may be packed, as torchao's are: ask the layer.
    return {
        name.removesuffix(".base_layer"): (layer.out_features, layer.in_features)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and not re.search(r"\.lora_[AB]\.", name)
    }


class _Unfit(Exception):
    """Why a LoRA cannot be used: what follows "cannot be used:"."""


# What is added to the model's own, and so is nothing where it is zero.
ADDENDS = r"\.(diff|diff_b|lora_(A|B|down|up)(\.default)?\.bias)$"

# The file's own type is kept: an engine converts to the model's anyway, and float32 would double what a LoRA
# takes. float8 has no arithmetic; bfloat16 holds each of its values exactly.
DTYPES = {dtype: dtype for dtype in (torch.float32, torch.float16, torch.bfloat16)} | {
    torch.float64: torch.float32,
    torch.float8_e4m3fn: torch.bfloat16,
    torch.float8_e5m2: torch.bfloat16,
}
# These begin with a part of the model's own weight and take it off that weight while training.
CHANGES_MODEL = ("pissa", "olora", "corda", "loftq", "lora_ga")


def _canonical(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> LoraWeights:
    _refuse_other_kinds(tensors)
    layers = _layers({key: _stored(key, tensor) for key, tensor in tensors.items()})
    _refuse_strangers(layers)
    weights: dict[str, dict[str, Pair]] = {"transformer": {}, "text_encoder": {}}
    configs = {component: _peft_config(metadata, component) for component in weights}
    for layer, parts in layers.items():
        if not (place := lora_names.place(layer)):
            continue
        component, modules = place
        for module, pair in _pairs(layer, parts, modules, configs[component]):
            if module in weights[component]:
                raise _Unfit(f"it changes {module} twice")
            weights[component][module] = pair
    if not any(weights.values()):
        raise _Unfit("it changes nothing")
    return LoraWeights(**weights)


def _refuse_other_kinds(keys: Iterable[str]) -> None:
    if kind := next(filter(None, map(lora_names.other_kind, keys)), ""):
        raise _Unfit(f"it is {kind}; only plain LoRAs can be used")


def _stored(key: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.ndim > 4:  # torch computes with no more than 64
        raise _Unfit(f"{shown(key)} has {tensor.ndim} dimensions")
    if key.endswith(".alpha"):
        return tensor
    if tensor.dtype not in DTYPES:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise _Unfit(f"{shown(key)} is {kind}, and a LoRA's weights are floating-point numbers")
    return tensor.to(DTYPES[tensor.dtype])


def _layers(tensors: dict[str, torch.Tensor]) -> dict[str, Parts]:
    """The tensors by layer, as the file calls it, and part of it: "A", "B" and, in some, "alpha"."""
    layers: dict[str, Parts] = {}
    rest = []
    for key, tensor in tensors.items():
        layer, part = lora_names.part(key)
        if part in layers.get(layer, {}):
            raise _Unfit(f"it gives {shown(layer)} twice")
        if part:
            layers.setdefault(layer, {})[part] = tensor
        elif not re.search(ADDENDS, key) or tensor.any():
            rest.append(key)
    if not (layers := {layer: parts for layer, parts in layers.items() if parts.keys() != {"alpha"}}):
        raise _Unfit("there is no LoRA in the file")
    if rest:
        raise _Unfit(f"{len(rest)} of its tensors belong to no LoRA and would be lost ({shown(rest[0])})")
    return layers


def _refuse_strangers(layers: dict[str, Parts]) -> None:
    strangers = [layer for layer, parts in layers.items() if _acts(parts) and lora_names.place(layer) is None]
    if strangers:
        (origin, _), *_ = Counter(map(lora_names.origin, strangers)).most_common(1)
        strangers = [layer for layer in strangers if lora_names.origin(layer) == origin]
        raise _Unfit(f"{_some(strangers, len(layers))} {origin} ({shown(strangers[0])})")


def _acts(parts: Parts) -> bool:
    """Whether a layer changes anything: trainers store text encoders that they did not train, with B = 0."""
    return all(bool(parts[part].any()) for part in "AB" if part in parts)


def _pairs(layer: str, parts: Parts, modules: Modules, config: Config | None) -> Iterator[tuple[str, Pair]]:
    down, up = _matrices(layer, parts)
    down, up = _folded(down, up, _scale(parts, down.shape[0], modules, config))
    if not (down.isfinite().all() and up.isfinite().all()):
        raise _Unfit(f"the weights of {layer} are not all finite numbers")
    for module, rows in zip(modules, _rows(layer, len(modules), up, down.shape[1]), strict=True):
        yield module, (down, rows)


def _matrices(layer: str, parts: Parts) -> Pair:
    for part in "AB":
        if part not in parts:
            raise _Unfit(f"the half {part} of {layer} is missing")
        if parts[part].ndim != 2:
            raise _Unfit(f"{layer} has {parts[part].ndim} dimensions where a linear layer has 2")
    down, up = parts["A"], parts["B"]
    if down.shape[0] != up.shape[1]:
        raise _Unfit(f"the halves of {layer} have different ranks, {down.shape[0]} and {up.shape[1]}")
    if not (down.numel() and up.numel()):
        raise _Unfit(f"{layer} is empty")
    return down, up


def _folded(down: torch.Tensor, up: torch.Tensor, scale: float) -> Pair:
    """``scale · up @ down``, a part of the scale on each side, so that neither underflows in float16."""
    if scale == 1:
        return down, up
    # A power of two on one side: that, and mostly the other too, loses no digit.
    half = 2.0 ** (math.frexp(scale)[1] // 2)
    return (down.float() * (scale / half)).to(down.dtype), (up.float() * half).to(up.dtype)


def _rows(layer: str, count: int, up: torch.Tensor, width: int) -> tuple[torch.Tensor, ...]:
    """B of each of the modules of a layer with ``width`` inputs."""
    height = up.shape[0]
    if "adaLN_modulation" in layer:
        # Black Forest Labs have the rows of the shift above those of the scale, diffusers has them below.
        return (up.roll(height // 2, 0),)
    # q, k and v of a single block are as wide as its input, the MLP takes the rest.
    heights = {1: [height], 3: [height // 3] * 3, 4: [width] * 3 + [height - 3 * width]}[count]
    if sum(heights) != height or min(heights) < 1:
        raise _Unfit(f"the {height} rows of {layer} cannot be split into {count} layers of FLUX")
    return torch.split(up, heights)


def _scale(parts: Parts, rank: int, modules: Modules, config: Config | None) -> float:
    """What ``B @ A`` is multiplied by: 1 where the file says nothing."""
    if "alpha" not in parts:
        scales = {_peft_scale(config, module, rank) if config else 1.0 for module in modules}
        if len(scales) > 1:
            raise _Unfit(f"its metadata gives one layer the alphas of {' and '.join(modules)}")
        return scales.pop()
    if config:
        raise _Unfit("it has alphas among its tensors, and others in its metadata")
    return _number(parts["alpha"].item() if parts["alpha"].numel() == 1 else None) / rank


def _peft_config(metadata: dict[str, str], component: str) -> Config | None:
    """peft's LoraConfig of one component, where ``save_lora_weights`` of diffusers left it in the file."""
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        config = {key.partition(".")[2]: settings[key] for key in settings if key.startswith(f"{component}.")}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _Unfit("its adapter metadata is damaged") from error
    if config.get("use_dora"):
        raise _Unfit("it is a DoRA, which also scales the model's own weights; only plain LoRAs can be used")
    if str(config.get("init_lora_weights")).startswith(CHANGES_MODEL):
        raise _Unfit("it is the half of a change of which the other half is in another model's weights")
    return config or None


def _peft_scale(config: Config, module: str, rank: int) -> float:
    promised = _of_module(config.get("rank_pattern"), module, config.get("r"))
    if promised != rank:
        raise _Unfit(f"its metadata gives {module} the rank {promised:g}, its weights have {rank}")
    alpha = _of_module(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_module(patterns: object, module: str, default: object) -> float:
    """A module's own number, by name or end of name, or the default.

    peft takes a pattern for a regular expression. A stranger's expression can run for ever: only plain names.
    """
    if not isinstance(patterns, dict | None):
        raise _Unfit("its adapter metadata is damaged")
    for pattern, value in (patterns or {}).items():
        plain = re.fullmatch(r"(\^?)((?:\w|\\?\.)+)\$?", pattern)
        if not plain:
            raise _Unfit(f"its adapter metadata has a pattern that is not a name ({shown(pattern)})")
        name = plain[2].replace("\\", "").removeprefix("text_model.")
        if module == name or (not plain[1] and module.endswith(f".{name}")):
            return _number(value)
    return _number(default)


def _number(value: object) -> float:
    # Below 1e18, because float() of a longer int raises; and NaN is below nothing.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e18:
        raise _Unfit("an alpha or a rank in it is missing, or not a sensible number")
    return float(value)


def _misfit(module: str, has: Shape, wanted: Shape) -> str:
    if module == "x_embedder" and has[0] == wanted[0] and has[1] > wanted[1]:
        return f"it is a control LoRA, which needs a picture: it reads {has[1]} channels, not {wanted[1]}"
    sizes = f"from {has[1]} to {has[0]} in the LoRA, from {wanted[1]} to {wanted[0]} here"
    return f"it was made for a model of another size: {module} goes {sizes}"


def _some(part: list[str], total: int) -> str:
    return f"{len(part)} of its {total} layer{'s' if total > 1 else ''} {'are' if len(part) > 1 else 'is'}"
