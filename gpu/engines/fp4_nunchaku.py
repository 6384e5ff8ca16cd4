"""The FP4 engine on NVIDIA GPUs that nunchaku has kernels for: SVDQuant weights in 4 bits.

Written from the source of nunchaku 1.2.1; no line that reaches it ever ran on a GPU here.
"""

from importlib import import_module
from typing import Any

import torch
from diffusers import FluxPipeline
from safetensors import SafetensorError

from gpu.engines.adapters import Loras, PeftAdapters
from gpu.engines.composed_loras import ComposedLoras, linear_shapes
from gpu.engines.errors import ModelFailed
from gpu.engines.flux import FluxEngine

TURING = (7, 5)


class NunchakuEngine(FluxEngine):
    """INT4 or FP4, as the plan says. Not reproducible: sums change their order (docs/source/faq/usage.rst).

    Attention stays upstream's default, "flashattn2": bfloat16 is safe from overflow, and the gain of
    "nunchaku-fp16" (docs/source/usage/attention.rst: up to 1.2 times) was not measured here. Turing has only
    the latter, and only float16 (examples/flux.1-dev-turing.py).
    """

    name = "fp4"

    @property
    def libraries(self) -> tuple[str, ...]:
        return (*super().libraries, "nunchaku")

    def _load_pipeline(self) -> FluxPipeline:
        nunchaku = _package()
        if is_turing(self.device):
            self.dtype = torch.float16
        try:
            transformer = self._transformer(nunchaku)
            components = {"text_encoder_2": self._t5(nunchaku)} if self.plan.four_bit_t5 else {}
        except (AssertionError, LookupError, TypeError, SafetensorError) as error:
            raise ModelFailed(f"nunchaku could not load its weights: {error!r}.") from error
        # Without it, so that it is not moved: it is on the device already, or nunchaku brings it there.
        pipeline = self._place(self._pipeline_of(transformer=None, **components))
        pipeline.register_modules(transformer=transformer)
        return pipeline

    def _new_loras(self, pipeline: FluxPipeline) -> Loras:
        shapes = linear_shapes(pipeline.transformer)
        text_encoder_loras = PeftAdapters(pipeline, self.config, ("text_encoder",), shapes)
        return ComposedLoras(pipeline.transformer, shapes, self.config, text_encoder_loras)

    def _transformer(self, nunchaku: Any) -> Any:
        """``NunchakuFluxTransformer2dModel.from_pretrained(path, **kwargs)``, which reads device, offload and
        torch_dtype, ``set_attention_impl(impl)``: 1.2.1, nunchaku/models/transformers/transformer_flux.py.
        """
        transformer = nunchaku.NunchakuFluxTransformer2dModel.from_pretrained(
            self.config.nunchaku_transformer.replace("{precision}", self.plan.precision),
            device=self.device,
            offload="transformer" in self.plan.offloaded,
            torch_dtype=self.dtype,
        )
        if self.dtype == torch.float16:
            transformer.set_attention_impl("nunchaku-fp16")
            retype_empty_branches(transformer._quantized_part_sd, torch.float16)
        return transformer

    def _t5(self, nunchaku: Any) -> Any:
        """``NunchakuT5EncoderModel.from_pretrained(path, **kwargs)``, which reads device and torch_dtype:
        nunchaku/models/text_encoders/t5_encoder.py, 1.2.1.
        """
        return nunchaku.NunchakuT5EncoderModel.from_pretrained(
            self.config.nunchaku_t5,
            device="cpu" if "text_encoder_2" in self.plan.offloaded else self.device,
            torch_dtype=self.dtype,
        )


def is_turing(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) == TURING


def retype_empty_branches(branches: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Give the empty low-rank branches of ``_quantized_part_sd`` the type of the model.

    nunchaku makes them of bfloat16 (transformer_flux.py), and ``reset_lora`` loads them. In a float16 model
    that is a conversion, launched with a grid of no blocks, which CUDA refuses (src/Module.cpp,
    src/kernels/misc_kernels.cu); of the same type they are copied, and for nothing to copy that returns.
    """
    for name, tensor in branches.items():
        if not tensor.numel():
            branches[name] = tensor.to(dtype)


def _package() -> Any:
    try:
        nunchaku = import_module("nunchaku")
    except ImportError as error:
        raise ModelFailed(
            f"nunchaku could not be imported: {error}. requirements-fp4.txt says how to install it."
        ) from error
    if not hasattr(nunchaku, "NunchakuFluxTransformer2dModel"):
        raise ModelFailed(
            "The package nunchaku that is installed is PyPI's, which has nothing to do with FLUX. "
            "Uninstall it; requirements-fp4.txt says where the right one is."
        )
    return nunchaku
