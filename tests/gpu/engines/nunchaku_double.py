"""nunchaku 1.2.1, as far as fluxsite calls it: the same names, arguments, types and defects, on the CPU.

From nunchaku/models/transformers/transformer_flux.py, nunchaku/models/text_encoders/t5_encoder.py,
nunchaku/lora/flux/{compose,nunchaku_converter,utils}.py and, where upstream is C++, nunchaku/csrc/flux.h,
src/Linear.cpp and src/kernels. Nothing is quantised or packed, and a CPU is as good as a GPU. What is an
assertion in C++ upstream, and would end the process, is ``Aborted`` here.
"""

import json
import sys
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from django.conf import settings
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import T5EncoderModel

Tensors = dict[str, torch.Tensor]

MODEL = Path(settings.FLUXSITE_MODEL)
VERSION = "1.2.1+cu12.8torch2.10"
HALF = (torch.bfloat16, torch.float16)
BASE_RANK = 16
MAX_RANK = 1024

DOUBLE = {
    "norm1.linear": ("norm1.linear",),
    "norm1_context.linear": ("norm1_context.linear",),
    "qkv_proj": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "qkv_proj_context": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "out_proj": ("attn.to_out.0",),
    "out_proj_context": ("attn.to_add_out",),
    "mlp_fc1": ("ff.net.0.proj",),
    "mlp_fc2": ("ff.net.2",),
    "mlp_context_fc1": ("ff_context.net.0.proj",),
    "mlp_context_fc2": ("ff_context.net.2",),
}
SINGLE = {
    "norm.linear": ("norm.linear",),
    "qkv_proj": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "out_proj": ("proj_out",),
    "mlp_fc1": ("proj_mlp",),
    "mlp_fc2": ("proj_out",),
}
# Computed by one kernel each.
MLPS = (("mlp_fc1", "mlp_fc2"), ("mlp_context_fc1", "mlp_context_fc2"))


class Aborted(BaseException):
    """The process would be gone."""


# lora/flux ---------------------------------------------------------------------------------------------


def is_nunchaku_format(lora: Tensors) -> bool:
    return any(".mlp_fc" in key or "mlp_context_fc1" in key for key in lora)


def compose_lora(loras: list[tuple[str | Tensors, float]], output_path: str | None = None) -> Tensors:
    assert isinstance(loras, list)
    assert output_path is None
    dicts = [(_tensors(lora), strength) for lora, strength in loras]
    assert all(type(strength) is float for _, strength in dicts)
    if len(dicts) == 1 and is_nunchaku_format(dicts[0][0]) and dicts[0][1] - 1 < 1e-5:
        return dicts[0][0]
    composed: Tensors = {}
    for lora, strength in dicts:
        assert not is_nunchaku_format(lora)
        for key, tensor in _with_fused(lora).items():
            assert tensor.ndim == 2
            added = tensor * strength if "lora_A" in key else tensor
            dim = 0 if "lora_A" in key else 1
            composed[key] = torch.cat([composed[key], added], dim) if key in composed else added
    return composed


def _with_fused(lora: Tensors) -> Tensors:
    """q, k and v as one; KeyError where one is missing, q's A for all where the three are close."""
    fused: Tensors = {}
    for key, tensor in lora.items():
        if ".to_q." in key or ".add_q_proj." in key:
            if "lora_A" in key:
                fused.update(_qkv(lora, key))
        elif not any(f".{name}." in key for name in ("to_k", "to_v", "add_k_proj", "add_v_proj")):
            fused[key] = tensor
    return fused


def _qkv(lora: Tensors, q_key: str) -> Tensors:
    keys = [q_key.replace(".to_q.", f".to_{n}.").replace(".add_q_proj.", f".add_{n}_proj.") for n in "qkv"]
    downs, ups = [lora[key] for key in keys], [lora[key.replace("lora_A", "lora_B")] for key in keys]
    new = q_key.replace(".to_q.", ".to_qkv.").replace(".add_q_proj.", ".add_qkv_proj.")
    if all(a.shape == downs[0].shape and torch.isclose(downs[0], a).all() for a in downs):
        return {new: downs[0], new.replace("lora_A", "lora_B"): torch.cat(ups)}
    up = torch.block_diag(*ups)  # type: ignore[no-untyped-call]
    return {new: torch.cat(downs), new.replace("lora_A", "lora_B"): up}


def to_nunchaku(
    input_lora: str | Tensors,
    base_sd: str | Tensors,
    dtype: str | torch.dtype = torch.bfloat16,
    output_path: str | None = None,
) -> Tensors:
    assert isinstance(dtype, torch.dtype)
    assert output_path is None
    lora, base = _tensors(input_lora), _tensors(base_sd)
    if is_nunchaku_format(lora):
        return lora
    lora = {key.removeprefix("transformer."): tensor for key, tensor in lora.items()}
    blocks = {".".join(key.split(".")[:2]) for key in base if key.endswith("qweight")}
    converted: Tensors = {}
    for block in sorted(blocks):
        inside = {key.removeprefix(f"{block}."): v for key, v in lora.items() if key.startswith(f"{block}.")}
        own = {key.removeprefix(f"{block}."): v for key, v in base.items() if key.startswith(f"{block}.")}
        converted |= {f"{block}.{key}": tensor for key, tensor in _convert_block(inside, own).items()}
    # Blocks that the base has not are gone by now.
    return converted | {key: tensor for key, tensor in lora.items() if "transformer_blocks" not in key}


def _convert_block(lora: Tensors, base: Tensors) -> Tensors:
    pairs = {
        key.removesuffix(".lora_A.weight"): (a, lora[key.replace("lora_A", "lora_B")])
        for key, a in lora.items()
        if key.endswith(".lora_A.weight")
    }
    single = "qkv_proj_context.qweight" not in base
    if single and "proj_out" in pairs:
        a, b = pairs.pop("proj_out")
        width = base["out_proj.qweight"].shape[1] * 2
        assert a.shape[1] == width + base["mlp_fc2.qweight"].shape[1] * 2
        pairs["out_proj"], pairs["mlp_fc2"] = (a[:, :width], b), (a[:, width:], b)
        pairs["proj_mlp"], pairs["mlp_fc2"] = _padded(pairs["proj_mlp"], pairs["mlp_fc2"])
    for first in ("ff.net.0.proj", "ff_context.net.0.proj"):
        if not single and first in pairs:
            second = first.replace("0.proj", "2")
            assert second in pairs
            pairs[first], pairs[second] = _padded(pairs[first], pairs[second])
    return _beside(pairs, base, SINGLE if single else DOUBLE)


def _padded(*pairs: tuple[torch.Tensor, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rank = max(a.shape[0] for a, _ in pairs)
    return [_with_rank(a, b, rank) for a, b in pairs]


def _with_rank(a: torch.Tensor, b: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    more = rank - a.shape[0]
    return nn.functional.pad(a, (0, 0, 0, more)).contiguous(), nn.functional.pad(b, (0, more)).contiguous()


def _beside(
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]], base: Tensors, names: dict[str, tuple[str, ...]]
) -> Tensors:
    converted: Tensors = {}
    for theirs, layers in names.items():
        ours = "attn.to_qkv" if layers[0] == "attn.to_q" else layers[0]
        ours = "attn.add_qkv_proj" if ours == "attn.add_q_proj" else ours
        extra = pairs.get(theirs) or pairs.get(ours)
        own = base[f"{theirs}.lora_down"], base[f"{theirs}.lora_up"]
        both = _joined(own if own[0].numel() else None, extra)
        if both:
            rank = -(-both[0].shape[0] // 16) * 16
            converted[f"{theirs}.lora_down"], converted[f"{theirs}.lora_up"] = _with_rank(*both, rank)
    return converted


def _joined(
    own: tuple[torch.Tensor, torch.Tensor] | None, extra: tuple[torch.Tensor, torch.Tensor] | None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    if own is None or extra is None:
        return own or (extra and (extra[0].bfloat16(), extra[1].bfloat16()))
    if (own[0].shape[1], own[1].shape[0]) != (extra[0].shape[1], extra[1].shape[0]):
        return own  # without a word
    return torch.cat([own[0], extra[0].bfloat16()]), torch.cat([own[1], extra[1].bfloat16()], 1)


def _tensors(given: str | Tensors) -> Tensors:
    assert isinstance(given, dict), "fluxsite gives no paths"
    assert all(isinstance(key, str) and isinstance(v, torch.Tensor) for key, v in given.items())
    return dict(given)


# The model ---------------------------------------------------------------------------------------------


class QuantizedFluxModel:
    """The blocks, which Python does not see. ``loadDict`` is the one of nunchaku/csrc/module.h."""

    def __init__(self, blocks: dict[str, nn.ModuleList], bf16: bool) -> None:
        self.blocks = blocks
        self.dtype = torch.bfloat16 if bf16 else torch.float16
        self.attention = "flashattn2"
        self.branches: Tensors = {}
        self.own: Tensors = {}
        self.weights = {name: layer.weight.detach().clone() for name, layer in self._layers().items()}

    def _layers(self) -> dict[str, nn.Linear]:
        return {
            f"{kind}.{name}": layer
            for kind, blocks in self.blocks.items()
            for name, layer in blocks.named_modules()
            if isinstance(layer, nn.Linear)
        }

    def loadDict(self, dict: Tensors, partial: bool = False) -> None:  # noqa: N802
        assert partial
        for name, tensor in dict.items():
            self._load(name, tensor)
        self._check_ranks()
        self._compute()

    def _load(self, name: str, tensor: torch.Tensor) -> None:
        if not tensor.numel() and tensor.dtype != self.dtype:
            raise RuntimeError("CUDA error: invalid configuration argument (at src/kernels/misc_kernels.cu)")
        if not tensor.is_contiguous() or tensor.ndim != 2 or tensor.dtype not in HALF:
            raise Aborted(name)
        if tensor.shape[0 if name.endswith("down") else 1] % 16:
            raise Aborted(name)
        if name in self.own:
            self.branches[name] = tensor

    def _check_ranks(self) -> None:
        for name, tensor in self.branches.items():
            if name.endswith("lora_up") and "norm" not in name and tensor.shape[1] > MAX_RANK:
                raise Aborted(f"{name} reads past the scales")
        for block in {".".join(name.split(".")[:2]) for name in self.branches}:
            for first, second in MLPS:
                up, down = (
                    self.branches.get(f"{block}.{n}") for n in (f"{first}.lora_up", f"{second}.lora_down")
                )
                if up is not None and down is not None and up.shape[1] != down.shape[0]:
                    raise Aborted(f"lora_act_out.shape[1] == rank_down ({block})")

    def _compute(self) -> None:
        """Merge what the branches add to the weights; nothing of what was merged before stays."""
        for name, layer in self._layers().items():
            added = self.added(name)
            weight = self.weights[name]
            layer.weight.data = (weight.float() + added).to(weight.dtype) if added.any() else weight.clone()

    def added(self, layer: str) -> torch.Tensor:
        """What LoRAs add to the weight of a layer, in float32."""
        block, name = ".".join(layer.split(".")[:2]), ".".join(layer.split(".")[2:])
        single = block.startswith("single")
        parts = []
        for theirs, ours in (SINGLE if single else DOUBLE).items():
            if name in ours:
                height = self.weights[layer].shape[0]
                rows = slice(ours.index(name) * height, (ours.index(name) + 1) * height)
                parts.append(self._product(f"{block}.{theirs}")[rows])
        return torch.cat(parts, 1)

    def _product(self, name: str) -> torch.Tensor:
        down, up = f"{name}.lora_down", f"{name}.lora_up"
        own = self.own[up].float() @ self.own[down].float()
        if down not in self.branches:
            return torch.zeros_like(own)
        return self.branches[up].float() @ self.branches[down].float() - own


class NunchakuFluxTransformerBlocks(nn.Module):
    def __init__(self, m: QuantizedFluxModel) -> None:
        super().__init__()
        self.m = m


class NunchakuFluxTransformer2dModel(FluxTransformer2DModel):  # type: ignore[misc]
    calls: list[dict[str, Any]] = []  # noqa: RUF012

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any
    ) -> "NunchakuFluxTransformer2dModel":
        # Upstream ignores arguments that it does not know.
        assert kwargs.keys() <= {"device", "offload", "torch_dtype", "precision", "return_metadata"}
        device = torch.device(kwargs.get("device", "cuda"))
        dtype = kwargs.get("torch_dtype", torch.bfloat16)
        assert isinstance(dtype, torch.dtype)
        assert isinstance(kwargs.get("offload", False), bool)
        cls.calls.append({"path": str(pretrained_model_name_or_path), **kwargs})
        with safe_open(_fetched(pretrained_model_name_or_path), "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        _check_hardware(json.loads(metadata["quantization_config"]), device)
        model: NunchakuFluxTransformer2dModel = cls.from_config(json.loads(metadata["config"])).to(dtype)
        model._take(tensors, dtype)
        return model

    def _take(self, tensors: Tensors, dtype: torch.dtype) -> None:
        branches = {k: v for k, v in tensors.items() if k.endswith((".lora_down", ".lora_up"))}
        self.load_state_dict({k: v for k, v in tensors.items() if k not in branches and "qweight" not in k})
        self._quantized_part_sd = {
            k: v.to("meta") for k, v in tensors.items() if k.endswith("qweight")
        } | branches
        for key in [key for key in tensors if key.endswith("qweight")]:
            rows, columns = tensors[key].shape
            name = key.removesuffix("qweight")
            if f"{name}lora_up" not in branches:
                self._quantized_part_sd[f"{name}lora_up"] = torch.zeros(rows, 0, dtype=torch.bfloat16)
                self._quantized_part_sd[f"{name}lora_down"] = torch.zeros(
                    0, columns * 2, dtype=torch.bfloat16
                )
        blocks = {name: getattr(self, name) for name in ("transformer_blocks", "single_transformer_blocks")}
        m = QuantizedFluxModel(blocks, bf16=dtype == torch.bfloat16)
        m.own = dict(self._quantized_part_sd)
        self.transformer_blocks = nn.ModuleList([NunchakuFluxTransformerBlocks(m)])
        self.single_transformer_blocks = nn.ModuleList([])
        self._unquantized_part_sd = {key: tensor.clone() for key, tensor in self.state_dict().items()}
        self._unquantized_part_loras: Tensors = {}

    @property
    def m(self) -> QuantizedFluxModel:
        block = self.transformer_blocks[0]
        assert isinstance(block, NunchakuFluxTransformerBlocks)
        return block.m

    def set_attention_impl(
        self, impl: str, attn_func: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        if impl not in ("", "default", "flashattn2", "nunchaku-fp16", "custom"):
            raise ValueError(f"Invalid attention implementation {impl}")
        self.m.attention = impl

    def update_lora_params(self, path_or_state_dict: str | Tensors) -> None:
        tensors = _tensors(path_or_state_dict)
        if not is_nunchaku_format(tensors):
            tensors = to_nunchaku(tensors, base_sd=self._quantized_part_sd)
        unquantized = {key: tensors.pop(key) for key in list(tensors) if "transformer_blocks" not in key}
        if self._unquantized_part_loras or unquantized:
            self._unquantized_part_loras = unquantized
            self._update_unquantized()
        self.m.loadDict(tensors, True)

    def _update_unquantized(self) -> None:
        loras = self._unquantized_part_loras
        for key in loras:
            if "lora_A" in key:
                assert loras[key].shape[1] <= self._unquantized_part_sd[key.replace(".lora_A.", ".")].shape[1]
        weights = dict(self._unquantized_part_sd)
        for key, tensor in weights.items():
            if (up := loras.get(key.replace(".weight", ".lora_B.weight"))) is not None and tensor.ndim == 2:
                weights[key] = tensor + up @ loras[key.replace(".weight", ".lora_A.weight")]
        self.load_state_dict(weights, strict=True)

    def reset_lora(self) -> None:
        if self._unquantized_part_loras:
            self._unquantized_part_loras = {}
            self._update_unquantized()
        self.m.loadDict({k: v for k, v in self._quantized_part_sd.items() if "lora" in k}, True)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        pooled_projections: torch.Tensor | None = None,
        timestep: torch.Tensor | None = None,
        img_ids: torch.Tensor | None = None,
        txt_ids: torch.Tensor | None = None,
        guidance: torch.Tensor | None = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
        controlnet_block_samples: Any = None,
        controlnet_single_block_samples: Any = None,
        return_dict: bool = True,
        controlnet_blocks_repeat: bool = False,
    ) -> Any:
        hidden = self.transformer_blocks, self.single_transformer_blocks
        for name, blocks in self.m.blocks.items():
            setattr(self, name, blocks)
        try:
            return super().forward(
                hidden_states=hidden_states,
                encoder_hidden_states=encoder_hidden_states,
                pooled_projections=pooled_projections,
                timestep=timestep,
                img_ids=img_ids,
                txt_ids=txt_ids,
                guidance=guidance,
                joint_attention_kwargs=joint_attention_kwargs,
                return_dict=return_dict,
            )
        finally:
            self.transformer_blocks, self.single_transformer_blocks = hidden


class NunchakuT5EncoderModel:
    calls: list[dict[str, Any]] = []  # noqa: RUF012

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Any:
        assert kwargs.keys() <= {"device", "torch_dtype"}
        dtype = kwargs.get("torch_dtype", torch.bfloat16)
        assert isinstance(dtype, torch.dtype)
        cls.calls.append({"path": str(pretrained_model_name_or_path), **kwargs})
        _fetched(pretrained_model_name_or_path)
        return T5EncoderModel.from_pretrained(MODEL / "text_encoder_2", dtype=dtype)


def _fetched(path: str | PathLike[str]) -> Path:
    """As nunchaku.utils.fetch_or_download, on a machine without a network."""
    if Path(path).exists():
        return Path(path)
    if len(Path(path).parts) < 3:
        raise ValueError(f"Path '{path}' is too short to extract repo_id and subfolder")
    raise OSError(f"{path} could not be downloaded")


def _check_hardware(quantization_config: dict[str, Any], device: torch.device) -> None:
    major, minor = torch.cuda.get_device_capability(0 if device.index is None else device.index)
    dtype = quantization_config["weight"]["dtype"]
    wanted = {"120": "fp4_e2m1_all", "121": "fp4_e2m1_all"} | dict.fromkeys(("75", "80", "86", "89"), "int4")
    if wanted.get(f"{major}{minor}") != dtype:
        raise ValueError(f"Unsupported GPU architecture {major}{minor} for {dtype}.")


# For tests ---------------------------------------------------------------------------------------------


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, capability: tuple[int, int] = (8, 9)) -> None:
    """Make the doubles the package nunchaku, and the GPU one of ``capability``."""

    def get_device_capability(device: torch.device | int | str | None = None) -> tuple[int, int]:
        return capability

    modules = {
        "nunchaku": (NunchakuFluxTransformer2dModel, NunchakuT5EncoderModel),
        "nunchaku.lora": (),
        "nunchaku.lora.flux": (),
        "nunchaku.lora.flux.compose": (compose_lora,),
        "nunchaku.lora.flux.nunchaku_converter": (to_nunchaku,),
    }
    for name, members in modules.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member.__name__, member)
        monkeypatch.setitem(sys.modules, name, module)
    information = folder / f"nunchaku-{VERSION}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nunchaku\nVersion: {VERSION}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(torch.cuda, "get_device_capability", get_device_capability)
    NunchakuFluxTransformer2dModel.calls.clear()
    NunchakuT5EncoderModel.calls.clear()


def write_transformer(path: Path, precision: str = "int4") -> None:
    """The demo model's transformer as a file of nunchaku's, with low-rank branches of its own."""
    tensors = load_file(MODEL / "transformer" / "diffusion_pytorch_model.safetensors")
    random = torch.Generator().manual_seed(0)
    blocks = {".".join(key.split(".")[:2]) for key in tensors if "transformer_blocks" in key}
    for block in sorted(blocks):
        names = SINGLE if block.startswith("single") else DOUBLE
        for theirs, ours in names.items():
            rows, columns = _size(tensors, block, theirs, ours)
            tensors[f"{block}.{theirs}.qweight"] = torch.zeros(rows, columns // 2, dtype=torch.int8)
            if "norm" not in theirs:
                for half, shape in (("lora_down", (BASE_RANK, columns)), ("lora_up", (rows, BASE_RANK))):
                    eighths = torch.randint(-8, 9, shape, generator=random) / 8
                    tensors[f"{block}.{theirs}.{half}"] = eighths.bfloat16()
    dtype = "fp4_e2m1_all" if precision == "fp4" else "int4"
    save_file(
        tensors,
        path,
        metadata={
            "config": (MODEL / "transformer" / "config.json").read_text(),
            "quantization_config": json.dumps({"weight": {"dtype": dtype}}),
        },
    )


def _size(tensors: Tensors, block: str, theirs: str, ours: tuple[str, ...]) -> tuple[int, int]:
    weights = [tensors[f"{block}.{layer}.weight"] for layer in ours]
    rows, columns = sum(weight.shape[0] for weight in weights), weights[0].shape[1]
    if ours == ("proj_out",):
        columns = rows if theirs == "out_proj" else columns - rows
    return rows, columns
