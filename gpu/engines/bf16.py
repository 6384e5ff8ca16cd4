"""The BF16 engine: diffusers' FluxPipeline in bfloat16, with LoRAs as peft adapters."""

import torch
from diffusers import FluxPipeline

from gpu.engines.flux import FluxEngine


class Bf16Engine(FluxEngine):
    """Reproducible: the same spec gives the same bytes on the same machine.

    So pictures are drawn one by one: in a batch each would depend on how many there are (up to 5 of 255
    levels in bfloat16, measured on a tiny FLUX).
    """

    name = "bf16"
    reproducible = True
    inference_mode = True

    def _load_pipeline(self) -> FluxPipeline:
        # The convolutions of the VAE: cuDNN may otherwise choose another algorithm in another process.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        return self._place(self._pipeline_of())
