"""LoRAs of a nunchaku transformer: composed into one, converted, and laid beside its 4-bit weights.

Written from the source of nunchaku 1.2.1: ``nunchaku/lora/flux/{compose,nunchaku_converter}.py``,
``nunchaku/models/transformers/transformer_flux.py`` and, in C++, ``src/Linear.cpp``. Left alone it would go
wrong in these ways:

- ``compose_lora`` raises KeyError where one of q, k, v is missing, and takes q's A for all three where they
  differ by 1e-8 or less; so the three are put together here, and never reach that code;
- it ignores a strength below 1 of a single LoRA that is converted already; so weights are multiplied in
  here, and every strength is 1;
- the two layers of an MLP are one kernel. Where a LoRA changes only one of them, their ranks differ, and an
  assertion ends the process; so the other one gets zeros;
- ``update_lora_params`` leaves what it does not name: the norms of the LoRA before; so all is reset first;
- layers of another size are cut or left out without a word, and so are blocks that the model has not; so
  sizes are checked before, and the rank of every layer after;
- above rank 1,024 the kernel reads past its table of scales (``src/kernels/zgemm/lora.cuh``).
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol

import torch
from diffusers import FluxTransformer2DModel

from gpu.engines import device_errors, lora_weights
from gpu.engines.adapters import Active, Loras, active
from gpu.engines.errors import LoraFailed
from gpu.engines.lora_weights import Pair, Shape
from gpu.engines.spec import EngineConfig, LoraRef

Tensors = dict[str, torch.Tensor]
Shapes = Mapping[str, Shape]

LARGEST_RANK = 1024

# Layers that nunchaku has as one.
_FUSED = {
    "attn.to_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "attn.add_qkv_proj": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
# Layers that one kernel computes.
_MLPS = {"ff.net.0.proj": "ff.net.2", "ff_context.net.0.proj": "ff_context.net.2", "proj_mlp": "proj_out"}
_PARTNERS = _MLPS | {second: first for first, second in _MLPS.items()}

# What nunchaku calls the layers of a block. The last one of a single block is two there.
_NORMS = {name: (name,) for name in ("norm.linear", "norm1.linear", "norm1_context.linear")}
_IN_NUNCHAKU: dict[str, dict[str, tuple[str, ...]]] = {
    "transformer_blocks": {
        "attn.to_qkv": ("qkv_proj",),
        "attn.add_qkv_proj": ("qkv_proj_context",),
        "attn.to_out.0": ("out_proj",),
        "attn.to_add_out": ("out_proj_context",),
        "ff.net.0.proj": ("mlp_fc1",),
        "ff.net.2": ("mlp_fc2",),
        "ff_context.net.0.proj": ("mlp_context_fc1",),
        "ff_context.net.2": ("mlp_context_fc2",),
        **_NORMS,
    },
    "single_transformer_blocks": {
        "attn.to_qkv": ("qkv_proj",),
        "proj_mlp": ("mlp_fc1",),
        "proj_out": ("out_proj", "mlp_fc2"),
        **_NORMS,
    },
}


class NunchakuTransformer(Protocol):
    """What is used of ``NunchakuFluxTransformer2dModel``, nunchaku 1.2.1.

    ``_quantized_part_sd`` has, in host memory, the low-rank branches that belong to the 4-bit weights.
    """

    config: Any
    _quantized_part_sd: Tensors

    def update_lora_params(self, path_or_state_dict: Tensors) -> None: ...

    def reset_lora(self) -> None: ...


class ComposedLoras:
    """The LoRAs of a pipeline with nunchaku's transformer; ``text_encoder_loras`` applies what is for CLIP.

    ``shapes``: ``linear_shapes`` of the transformer. Converting takes the time, so the results are kept: at
    most ``config.adapters`` sets of LoRAs, of at most ``config.adapter_bytes`` of host memory.
    """

    def __init__(
        self,
        transformer: NunchakuTransformer,
        shapes: Shapes,
        config: EngineConfig,
        text_encoder_loras: Loras,
    ) -> None:
        self._transformer = transformer
        self._shapes = shapes
        self._text_encoder_loras = text_encoder_loras
        self._kept = _Kept(config)
        # None: an error came between.
        self._applied: Active | None = ()

    def apply(self, loras: Sequence[LoraRef]) -> Active:
        try:
            changing_text = self._text_encoder_loras.apply(loras)
            if (wanted := active(loras)) != self._applied:
                self._switch(wanted, loras)
        except BaseException:
            self._take_off()
            raise
        return changing_text

    def kept(self) -> tuple[int, frozenset[str]]:
        """Of converted sets, which lie in host memory, and of CLIP's adapters."""
        nbytes, sha256 = self._text_encoder_loras.kept()
        sets = dict(self._kept._entries)
        return (
            nbytes + sum(size for _, size in sets.values()),
            sha256 | {sha256 for loras in sets for sha256, _ in loras},
        )

    def _switch(self, wanted: Active, loras: Sequence[LoraRef]) -> None:
        self._applied = None
        self._transformer.reset_lora()
        with _blamed_on(loras):
            if tensors := self._tensors(wanted, {lora.sha256: lora for lora in loras}):
                self._transformer.update_lora_params(tensors)
        self._applied = wanted

    def _take_off(self) -> None:
        self._applied = None
        self._text_encoder_loras.apply(())
        self._transformer.reset_lora()
        self._applied = ()

    def _tensors(self, wanted: Active, files: Mapping[str, LoraRef]) -> Tensors:
        """What ``update_lora_params`` takes; nothing where the transformer stays as it is."""
        if (kept := self._kept.get(wanted)) is not None:
            return kept
        loras = [self._read(files[sha256], weight) for sha256, weight in wanted]
        base = self._transformer._quantized_part_sd
        tensors = converted([lora for lora in loras if lora], base)
        nbytes = sum(tensor.nbytes for key, tensor in tensors.items() if tensor is not base.get(key))
        self._kept.put(wanted, tensors, nbytes)
        return tensors

    def _read(self, lora: LoraRef, weight: float) -> Tensors:
        # What is for the text encoder is checked by those who apply it.
        weights = replace(lora_weights.read(lora), text_encoder={})
        lora_weights.check(weights, lora.name, self._shapes, {})
        return composable(weights.transformer, weight, self._shapes)


class _Kept:
    """Converted tensors, those used last at the end."""

    def __init__(self, limits: EngineConfig) -> None:
        self._limits = limits
        self._entries: OrderedDict[Active, tuple[Tensors, int]] = OrderedDict()

    def get(self, key: Active) -> Tensors | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: Active, tensors: Tensors, nbytes: int) -> None:
        self._entries[key] = tensors, nbytes
        while self._too_many():
            self._entries.popitem(last=False)

    def _too_many(self) -> bool:
        held = sum(nbytes for _, nbytes in self._entries.values())
        return len(self._entries) > self._limits.adapters or held > self._limits.adapter_bytes


@contextmanager
def _blamed_on(loras: Sequence[LoraRef]) -> Iterator[None]:
    """nunchaku's complaints as LoraFailed; those of the device, which are RuntimeErrors too, as they are."""
    try:
        yield
    except (AssertionError, LookupError, TypeError, ValueError, RuntimeError) as error:
        if device_errors.told(error):
            raise
        names = " and ".join(lora.name for lora in loras)
        raise LoraFailed(f"{names} could not be applied by nunchaku: {error!r}.") from error


def linear_shapes(transformer: NunchakuTransformer) -> dict[str, Shape]:
    """(out, in) of every linear layer, by diffusers' names. nunchaku's own blocks could not be asked."""
    with torch.device("meta"):
        return lora_weights.linear_shapes(FluxTransformer2DModel.from_config(transformer.config))


def composable(pairs: Mapping[str, Pair], weight: float, shapes: Shapes) -> Tensors:
    """One LoRA, ``weight`` multiplied in, as ``compose_lora`` takes it."""
    return {
        f"transformer.{layer}.lora_{letter}.weight": tensor
        for layer, pair in _with_partners(_fused(pairs), shapes).items()
        for letter, tensor in zip("AB", _weighted(layer, pair, weight), strict=True)
    }


def _weighted(layer: str, pair: Pair, weight: float) -> Pair:
    """In the type that the layer computes in: what is not in a block is added to its weight beforehand."""
    dtype = torch.bfloat16 if _split(layer)[0] else torch.float32
    return (pair[0].float() * weight).to(dtype), pair[1].to(dtype)


def _fused(pairs: Mapping[str, Pair]) -> dict[str, Pair]:
    fused = {}
    for layer, pair in pairs.items():
        block, name = _split(layer)
        for whole, parts in _FUSED.items():
            if name in parts:
                fused[f"{block}.{whole}"] = _stacked([pairs.get(f"{block}.{part}") for part in parts])
                break
        else:
            fused[layer] = pair
    return fused


def _stacked(pairs: Sequence[Pair | None]) -> Pair:
    """One pair for layers of one size that are stacked, with zeros for those that are None."""
    there = [(a.float(), b.float()) for a, b in filter(None, pairs)]
    height = there[0][1].shape[0]
    if all(torch.equal(a, there[0][0]) for a, _ in there):
        a = there[0][0]
        return a, torch.cat([pair[1].float() if pair else torch.zeros(height, a.shape[0]) for pair in pairs])
    blocks = [pair[1].float() if pair else torch.zeros(height, 0) for pair in pairs]
    return torch.cat([a for a, _ in there]), torch.block_diag(*blocks)  # type: ignore[no-untyped-call]


def _with_partners(pairs: Mapping[str, Pair], shapes: Shapes) -> dict[str, Pair]:
    complete = dict(pairs)
    for layer in pairs:
        block, name = _split(layer)
        if block and name in _PARTNERS and (partner := f"{block}.{_PARTNERS[name]}") not in pairs:
            out, width = shapes[partner]
            complete[partner] = torch.zeros(1, width), torch.zeros(out, 1)
    return complete


def converted(loras: Sequence[Tensors], base: Tensors) -> Tensors:
    """LoRAs of ``composable`` as one in nunchaku's own layout, beside the branches of ``base``.

    ``compose_lora(loras, output_path=None)``, lora/flux/compose.py, and ``to_nunchaku(input_lora, base_sd,
    dtype, output_path)``, lora/flux/nunchaku_converter.py, of nunchaku 1.2.1. Raises LoraFailed.
    """
    if not loras:
        return {}
    ranks = _ranks(loras)
    _check_room(ranks, base)
    composed = import_module("nunchaku.lora.flux.compose").compose_lora([(lora, 1.0) for lora in loras])
    tensors = import_module("nunchaku.lora.flux.nunchaku_converter").to_nunchaku(composed, base_sd=base)
    _check_nothing_lost(ranks, tensors, base)
    return _shared_with(base, tensors)


def _ranks(loras: Sequence[Tensors]) -> Counter[str]:
    """The rank that the LoRAs have together, by the name that nunchaku gives the half B of a layer."""
    ranks: Counter[str] = Counter()
    for lora in loras:
        for key, tensor in lora.items():
            if key.endswith(".lora_B.weight"):
                ranks.update(dict.fromkeys(_names_in_nunchaku(key), tensor.shape[1]))
    return ranks


def _names_in_nunchaku(key: str) -> list[str]:
    layer = key.removeprefix("transformer.").removesuffix(".lora_B.weight")
    block, name = _split(layer)
    if not block:
        return [f"{layer}.lora_B.weight"]
    names = _IN_NUNCHAKU[block.partition(".")[0]]
    if name not in names:
        raise LoraFailed(f"nunchaku cannot change {layer}.")
    return [f"{block}.{theirs}.lora_up" for theirs in names[name]]


def _check_room(ranks: Counter[str], base: Tensors) -> None:
    for name, rank in ranks.items():
        # Norms are computed without that kernel.
        room = LARGEST_RANK - _rank(base.get(name))
        if name.endswith(".lora_up") and "norm" not in name and rank > room:
            raise LoraFailed(
                f"Together the LoRAs have the rank {rank} in one layer, and nunchaku has room for {room}. "
                "Use fewer LoRAs, or smaller ones."
            )


def _check_nothing_lost(ranks: Counter[str], tensors: Tensors, base: Tensors) -> None:
    for name, rank in ranks.items():
        if _rank(tensors.get(name)) < _rank(base.get(name)) + rank:
            raise LoraFailed(f"nunchaku left out a part of the LoRAs ({name.rpartition('.')[0]}).")


def _rank(up: torch.Tensor | None) -> int:
    return 0 if up is None else up.shape[1]


def _shared_with(base: Tensors, tensors: Tensors) -> Tensors:
    """``tensors``, without a second copy of what is in ``base``: 240 MB for FLUX."""
    return {
        key: base[key] if key in base and torch.equal(tensor, base[key]) else tensor
        for key, tensor in tensors.items()
    }


def _split(layer: str) -> tuple[str, str]:
    """A layer's block and its name in there; no block for what nunchaku does not quantise."""
    match = re.fullmatch(r"((?:single_)?transformer_blocks\.\d+)\.(.+)", layer)
    return (match[1], match[2]) if match else ("", layer)
