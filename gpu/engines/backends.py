"""The backends there are, and the rules that choose one for a device. No torch in here.

A new backend is a module beside this one, a ``Rule`` and a line in ``BACKENDS``.

Nothing below was measured by us on a GPU: the sizes of weights are arithmetic, and what drawing takes
besides is estimated. Engines still cope with running out of memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import cast

from gpu.devices import Device
from gpu.engines.errors import ModelFailed
from gpu.engines.spec import Engine, EngineConfig
from gpu.model_size import ModelSize
from gpu.nunchaku_package import nunchaku_installed

ENGINES: tuple[str, ...] = ("fp4", "bf16")

BACKENDS: dict[str, str] = {
    "nunchaku": "gpu.engines.fp4_nunchaku.NunchakuEngine",
    "torchao": "gpu.engines.fp4_torchao.TorchaoEngine",
    "diffusers": "gpu.engines.bf16.Bf16Engine",
}

GIB = 1024**3

# Bytes a parameter.
_BF16 = 2.0
_FOUR_BIT = 0.57  # 4 bits, a byte of scale for each 16 weights, and the embedders whole: 6.3 GiB of FLUX
_FOUR_BIT_T5 = 0.63  # nunchaku's: its embeddings stay in 16 bits; 2.8 GiB

# What drawing takes at 1024 × 1024 beside weights and LoRAs: activations, the decoding of the VAE, and some
# 0.5 GiB of CUDA context. An estimate: nunchaku's own tests allow FLUX.1-schnell at most 17 GiB of torch's
# memory where the weights are 15.5, and 12 where they are 9.4.
_WORKING = 3 * GIB
# The same for a model far smaller than FLUX, such as the demo's: mostly torch itself.
_WORKING_SMALL = 3 * GIB // 4

# The part of an offloaded component that is on the device at once: the layer that computes, the next one,
# and what is not in layers. A double block of FLUX is 1/35 of it, a block of T5 1/25. Estimated with room.
_OFFLOAD_SHARE = 0.1
# Host memory that an offloading process takes besides the weights. An estimate. What is not offloaded takes
# none: diffusers and transformers map the files, and the kernel drops those pages when it needs room.
_HOST_ROOM = 2 * GIB

# On Turing torch has no fused attention for bfloat16: it writes down all scores in float32, and holds 2.75
# times their size at its peak (measured on a CPU, the code is the same). 24 heads, 4,352 tokens at 1024².
_TURING_SCORES = int(2.75 * 4 * 24 * 4352**2)

# A smaller transformer is not FLUX but shaped like it.
_FLUX_PARAMETERS = 10_000_000_000

_TURING = 75
_OLDEST_SM = _TURING  # of PyTorch built for CUDA 13
_NUNCHAKU_PRECISIONS = {75: "int4", 80: "int4", 86: "int4", 89: "int4", 120: "fp4", 121: "fp4"}
_NUNCHAKU_MISSING = "nunchaku would be faster here and take less memory: requirements-fp4.txt says how."
_EMULATED = "This GPU computes bfloat16 by emulation, which is slow."


@dataclass(frozen=True)
class Plan:
    """How an engine runs on a device: which backend, in which precision, and what stays off the device.

    ``offloaded``: the pipeline's components that are kept in host memory and brought to the device block by
    block. ``need``: bytes on the device, with what drawing takes. ``note``: what else to know, in sentences.
    """

    backend: str
    precision: str
    need: int
    offloaded: tuple[str, ...] = ()
    four_bit_t5: bool = False
    note: str = ""

    def __str__(self) -> str:
        bits, _, how = self.precision.partition(" ")
        words = [f"{self.backend} {bits.upper()} {how}".strip()]
        if self.four_bit_t5:
            words.append("4-bit T5")
        if self.offloaded:
            words.append(f"{' and '.join(_SPOKEN[name] for name in self.offloaded)} in host memory")
        return ", ".join([*words, f"needs {gib(self.need)}"])


@dataclass(frozen=True)
class Refusal:
    """Why an engine cannot run on a device, in one sentence."""

    reason: str


@dataclass(frozen=True)
class Residency:
    """Where the weights are. ``offloaded``: see ``Plan``."""

    offloaded: tuple[str, ...] = ()
    four_bit_t5: bool = False


@dataclass(frozen=True)
class Rule:
    """When and how a backend serves an engine.

    ``unfit`` says why it cannot on a device, whatever its memory; empty when it can. ``residencies`` are
    tried in order: the first that fits is taken. ``weight``: bytes a parameter of the transformer.
    """

    backend: str
    engine: str
    weight: float
    precision: Callable[[Device], str]
    unfit: Callable[[Device, ModelSize, bool], str]
    residencies: Callable[[Device], tuple[Residency, ...]]


@dataclass(frozen=True)
class Need:
    """Bytes."""

    device: int
    host: int


_SPOKEN = {"transformer": "transformer", "text_encoder_2": "T5"}
_ALL_RESIDENT = Residency()
_T5_OFFLOADED = Residency(("text_encoder_2",))
_BOTH_OFFLOADED = Residency(("transformer", "text_encoder_2"))


def _torch_unfit(device: Device, model: ModelSize, nunchaku: bool) -> str:
    if device.vendor == "nvidia" and device.sm < _OLDEST_SM:
        major, minor = device.capability or (0, 0)
        return f"PyTorch needs compute capability 7.5 or newer, and this GPU has {major}.{minor}."
    return ""


_DIFFUSERS = Rule(
    backend="diffusers",
    engine="bf16",
    weight=_BF16,
    precision=lambda device: "bf16",
    unfit=_torch_unfit,
    residencies=lambda device: (_ALL_RESIDENT, _T5_OFFLOADED, _BOTH_OFFLOADED),
)

_TORCHAO = Rule(
    backend="torchao",
    engine="fp4",
    weight=_FOUR_BIT,
    precision=lambda device: "nvfp4 weight-only",
    unfit=_torch_unfit,
    residencies=lambda device: (_ALL_RESIDENT, _T5_OFFLOADED),
)


def _nunchaku_unfit(device: Device, model: ModelSize, nunchaku: bool) -> str:
    # nunchaku's own get_precision() answers "int4" on Hopper, and fails later.
    if device.sm not in _NUNCHAKU_PRECISIONS:
        return "nunchaku has no kernels for this device."
    if model.transformer < _FLUX_PARAMETERS:
        return "nunchaku has weights of FLUX only."
    return "" if nunchaku else _NUNCHAKU_MISSING


def _nunchaku_residencies(device: Device) -> tuple[Residency, ...]:
    # Its 4-bit T5 does not run on Turing.
    if device.sm == _TURING:
        return (_ALL_RESIDENT, _T5_OFFLOADED, _BOTH_OFFLOADED)
    return (_ALL_RESIDENT, Residency(four_bit_t5=True), Residency(("transformer",), four_bit_t5=True))


_NUNCHAKU = Rule(
    backend="nunchaku",
    engine="fp4",
    weight=_FOUR_BIT,
    precision=lambda device: _NUNCHAKU_PRECISIONS[device.sm],
    unfit=_nunchaku_unfit,
    residencies=_nunchaku_residencies,
)

# In order of preference.
_RULES = (_NUNCHAKU, _TORCHAO, _DIFFUSERS)


def create(name: str, config: EngineConfig, device: Device, host: Device) -> Engine:
    """Make the engine called ``name`` for ``device``; ``host`` is the CPU. Imports torch.

    Raises ModelFailed when the model is not there or cannot run on the device.
    """
    chosen = plan(name, device, host, _size_of(config), nunchaku_installed(), config.adapter_bytes)
    if isinstance(chosen, Refusal):
        raise ModelFailed(chosen.reason)
    module, _, cls = BACKENDS[chosen.backend].rpartition(".")
    return cast(Engine, getattr(import_module(module), cls)(config, chosen))


def _size_of(config: EngineConfig) -> ModelSize:
    try:
        return ModelSize.of(config.model)
    except (OSError, ValueError) as error:
        raise ModelFailed(f"The model {config.model} could not be loaded: {error}") from error


def waits_for_memory(name: str, config: EngineConfig, device: Device, host: Device) -> str:
    """Whom the engine has to wait for: a sentence if the model would fit once others let go of memory.

    Raises ModelFailed when the model is not there.
    """
    model = _size_of(config)
    now, alone = (
        plan(name, *memory, model, nunchaku_installed(), config.adapter_bytes)
        for memory in ((device, host), (replace(device, free=device.total), replace(host, free=host.total)))
    )
    if isinstance(now, Refusal) and isinstance(alone, Plan):
        return f"Waits for memory that other processes hold on {device.name}. {now.reason}"
    return ""


def plan(
    engine: str,
    device: Device,
    host: Device,
    model: ModelSize,
    nunchaku: bool,
    adapters: int = EngineConfig.adapter_bytes,
) -> Plan | Refusal:
    """How ``engine`` runs on ``device``, decided from what is free there and on ``host``, the CPU.

    ``nunchaku``: whether it is installed. ``adapters``: bytes of LoRAs that may be kept ready.
    """
    rules = [rule for rule in _RULES if rule.engine == engine]
    reasons = [rule.unfit(device, model, nunchaku) for rule in rules]
    if "" not in reasons:
        return Refusal(reasons[-1])
    rule = rules[reasons.index("")]
    missing = _NUNCHAKU_MISSING if _NUNCHAKU_MISSING in reasons else ""
    needs = {
        residency: _need(rule, residency, device, model, adapters) for residency in _residencies(rule, device)
    }
    for residency, need in needs.items():
        if need.device <= device.free and need.host <= host.free:
            return Plan(
                backend=rule.backend,
                precision=rule.precision(device),
                need=need.device,
                offloaded=residency.offloaded,
                four_bit_t5=residency.four_bit_t5,
                note=f"{_EMULATED if _emulates(rule, device) else ''} {missing}".strip(),
            )
    return Refusal(f"{_too_little(list(needs.values()), device, host)} {missing}".strip())


def _residencies(rule: Rule, device: Device) -> tuple[Residency, ...]:
    # On the CPU there is nothing to offload to.
    return rule.residencies(device)[:1] if device.vendor == "cpu" else rule.residencies(device)


def _need(rule: Rule, residency: Residency, device: Device, model: ModelSize, adapters: int) -> Need:
    flux = model.transformer >= _FLUX_PARAMETERS
    weights = {
        # LoRAs are where the transformer is. A small model has small ones.
        "transformer": model.transformer * rule.weight + min(adapters, model.transformer * _BF16),
        "text_encoder_2": model.t5 * (_FOUR_BIT_T5 if residency.four_bit_t5 else _BF16),
        "rest": model.rest * _BF16,
    }
    away = sum(weights.pop(name) for name in residency.offloaded)
    working = _WORKING if flux else _WORKING_SMALL
    if flux and _emulates(rule, device):
        working += _TURING_SCORES
    return Need(
        device=int(sum(weights.values()) + away * _OFFLOAD_SHARE + working),
        host=int(away + _HOST_ROOM) if away else 0,
    )


def _emulates(rule: Rule, device: Device) -> bool:
    """Whether bfloat16 is emulated: Turing has none. nunchaku takes float16 there."""
    return device.sm == _TURING and rule is not _NUNCHAKU


def _too_little(needs: list[Need], device: Device, host: Device) -> str:
    most, least = needs[0], needs[-1]
    if len(needs) == 1:
        return f"The model needs {gib(most.device)} of memory; {gib(device.free)} are free."
    return (
        f"The model needs {gib(most.device)} of GPU memory, or {gib(least.device)} and {gib(least.host)} "
        f"of host memory; {gib(device.free)} of GPU memory and {gib(host.free)} of host memory are free."
    )


def gib(size: int) -> str:
    """A size for people."""
    return f"{size / GIB:.1f} GiB"
