"""The BF16 engine: diffusers' FluxPipeline in bfloat16, with LoRAs as peft adapters."""

import torch

from gpu.engines.flux import FluxEngine


class Bf16Engine(FluxEngine):
    """Reproducible: the same spec gives the same bytes on the same machine."""

    name = "bf16"
    precision = "bf16"
    dtype = torch.bfloat16
