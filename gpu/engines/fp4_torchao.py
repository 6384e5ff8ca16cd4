"""FP4 where nunchaku does not run (Hopper, AMD, CPU): 4-bit weights, multiplied in bfloat16, with peft LoRAs.

The number format is torchao's NVFP4 (torchao 0.18.0, ``prototype/mx_formats``: an API that may change, so the
version is pinned). A layer's weight becomes bfloat16 when it is needed and is dropped again: this saves
memory, not time. ``python -m bench.four_bit`` compares it with other formats.

Nothing here asks for a compute capability, triton or a compiler, so it should run wherever torch does. It ran
on a CPU only: not on CUDA, not on ROCm, and not offloaded to a GPU.
"""

import warnings
from functools import cache

import torch
from diffusers import FluxPipeline
from torch import Tensor, nn
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

from gpu.engines.adapters import Loras, PeftAdapters
from gpu.engines.flux import FluxEngine
from gpu.engines.lora_weights import LoraWeights

# Weights that share a scale.
BLOCK = 16

# Where a transformer keeps nearly all its weights. What is around its blocks (embedders, the last norm, the
# last projection) stays in bfloat16: 5 % of the demo model and 0.5 % of FLUX, but in the demo model more than
# half of the error. AdaLN's layers, a quarter of both, are as sturdy as the others: 4 bits for them, too.
QUANTISED = ("transformer_blocks.", "single_transformer_blocks.")

# The largest weight of a matrix of zeros, so that its scale is not zero.
_SMALLEST = 1e-6


class TorchaoEngine(FluxEngine):
    """Quantises while loading: the saved torchao checkpoints of diffusers 0.42 are not to be relied on."""

    name = "fp4"

    @property
    def libraries(self) -> tuple[str, ...]:
        return (*super().libraries, "torchao")

    def _load_pipeline(self) -> FluxPipeline:
        pipeline = self._pipeline_of()
        quantise(pipeline.transformer, self.device)
        return self._place(pipeline)

    def _new_loras(self, pipeline: FluxPipeline) -> Loras:
        return TorchaoAdapters(pipeline, self.config)


class TorchaoAdapters(PeftAdapters):
    """Adapters on torchao's tensors, to which peft 0.21.2 gives a layer of its own (``lora/torchao.py``)."""

    def _into_transformer(self, adapter: str, weights: LoraWeights) -> None:
        with warnings.catch_warnings():
            # "... merge() will raise an error": it may, nothing is ever merged.
            warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated without")
            super()._into_transformer(adapter, weights)


def quantise(transformer: nn.Module, device: torch.device) -> None:
    """Replace the linear layers of the transformer's blocks by 4-bit ones, in place.

    Layer by layer on ``device``, and each result goes back to where its layer was. So host memory has to hold
    the bfloat16 transformer (23.8 GB for FLUX), and the device one layer at a time: at most 1.6 GiB beside
    what is there (18432 × 3072, measured on a CPU, where that layer took 11 s on one core).
    """
    for name in [name for name, _ in transformer.named_modules() if name.startswith(QUANTISED)]:
        layer = transformer.get_submodule(name)
        if isinstance(layer, nn.Linear) and layer.in_features % BLOCK == 0:
            transformer.set_submodule(name, Nvfp4Linear.of(layer, device))


class Nvfp4Linear(nn.Linear):
    """A linear layer whose weight is an ``NVFP4Tensor``: half a byte a weight, and a byte of scale for 16."""

    def __init__(self, weight: NVFP4Tensor, bias: nn.Parameter | None) -> None:
        rows, columns = weight.shape
        super().__init__(columns, rows, bias=False, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_parameter("bias", bias)

    @classmethod
    def of(cls, layer: nn.Linear, device: torch.device) -> "Nvfp4Linear":
        weight = layer.weight.detach().to(device)
        largest = weight.abs().max().clamp(min=_SMALLEST)
        # The scales in plain order: the swizzled one of torchao's own configuration is padded, and only the
        # FP4 matrix products of sm_100 want it.
        packed = NVFP4Tensor.to_nvfp4(weight, per_tensor_scale=per_tensor_amax_to_scale(largest))
        return cls(packed.to(layer.weight.device), layer.bias)

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, dequantised(self.weight), self.bias)


def dequantised(weight: NVFP4Tensor) -> Tensor:
    """The weight in bfloat16: bit for bit ``weight.dequantize()``, for less.

    torchao 0.18.0 decodes in float32, bit by bit. For 18432 × 3072 on one core, in turns, that took 3.6 s and
    1.6 GiB; looking up both weights of a byte took 0.8 s and 0.5 GiB. The demo's pictures take 1.3 times as
    long as in BF16 this way, and 3 to 4 times with torchao's.
    """
    pairs = _pairs(weight.device).index_select(0, weight.qdata.flatten().int())
    blocks = pairs.view(torch.bfloat16).view(*weight.scale.shape, BLOCK)
    scales = weight.scale.float() * weight.per_tensor_scale
    # In place: multiplied in float32, rounded to bfloat16 once.
    return blocks.mul_(scales.unsqueeze(-1)).view(weight.shape)


@cache
def _pairs(device: torch.device) -> Tensor:
    """The two E2M1 numbers in each byte, low half first, as two bfloat16 in one int32: (256,)."""
    positive = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    numbers = torch.cat([positive, -positive]).to(torch.bfloat16)
    byte = torch.arange(256)
    pairs = torch.stack([numbers[byte & 15], numbers[byte >> 4]], dim=1)
    return pairs.view(torch.int32).flatten().to(device)
