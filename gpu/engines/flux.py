"""What every FLUX engine shares: one diffusers FluxPipeline, its adapters, and one call that draws."""

import gc
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import diffusers
import torch
import transformers
from diffusers import FluxPipeline

from gpu.engines.errors import InvalidOutput, LoraFailed, ModelFailed
from gpu.engines.spec import ImageSpec, LoraRef, OnStep

if TYPE_CHECKING:
    from PIL.Image import Image

# Both print the part of a prompt that did not fit; prompts do not belong in logs.
for library in (diffusers.utils.logging, transformers.logging):
    library.set_verbosity_error()
    library.disable_progress_bar()


class FluxEngine:
    """FLUX.1-schnell through ``diffusers.FluxPipeline`` (written against diffusers 0.42.1)."""

    name: ClassVar[str]
    precision: ClassVar[str]
    dtype: ClassVar[torch.dtype]

    def __init__(self, model: str, max_sequence_length: int) -> None:
        self.model = model
        self.max_sequence_length = max_sequence_length
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._pipeline: Any = None

    @property
    def backend(self) -> str:
        return f"diffusers {version('diffusers')}, torch {torch.__version__}, {self.precision}"

    @property
    def loaded(self) -> bool:
        return self._pipeline is not None

    def load(self) -> None:
        if self.loaded:
            return
        try:
            pipeline = FluxPipeline.from_pretrained(self.model, dtype=self.dtype)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelFailed(f"The model {self.model} could not be loaded: {error}") from error
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(self.device)

    def unload(self) -> None:
        self._pipeline = None
        gc.collect()

    def generate(self, spec: ImageSpec, on_step: OnStep) -> "list[Image]":
        self.load()
        self._apply(spec.loras)
        latents = self._denoise(spec, on_step)
        return self._decode(latents, spec)

    def _apply(self, loras: tuple[LoraRef, ...]) -> None:
        """Make the adapters of the transformer exactly those of ``loras``."""
        wanted = {self._adapter(lora): lora for lora in loras}
        resident = set(self._pipeline.get_list_adapters().get("transformer", []))
        if stale := sorted(resident - wanted.keys()):
            self._pipeline.delete_adapters(stale)
        for adapter, lora in wanted.items():
            if adapter not in resident:
                self._load_adapter(adapter, lora)
        if wanted:
            self._pipeline.set_adapters(list(wanted), [lora.weight for lora in wanted.values()])

    @staticmethod
    def _adapter(lora: LoraRef) -> str:
        return f"lora_{lora.sha256}"

    def _load_adapter(self, adapter: str, lora: LoraRef) -> None:
        try:
            with warnings.catch_warnings():
                # Several adapters are what we want.
                warnings.filterwarnings("ignore", "Already found a `peft_config`")
                self._pipeline.load_lora_weights(
                    str(lora.path.parent),
                    weight_name=lora.path.name,
                    adapter_name=adapter,
                    use_safetensors=True,
                )
        except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
            raise LoraFailed(f"{lora.name} could not be loaded: {error}") from error
        # diffusers "loads" a file whose keys it does not know without a word: look whether it is there.
        if adapter not in self._pipeline.get_list_adapters().get("transformer", []):
            raise LoraFailed(f"{lora.name} changes nothing in this model: it was made for another one.")

    def _denoise(self, spec: ImageSpec, on_step: OnStep) -> torch.Tensor:
        """Packed latents, (pictures, tokens, 64)."""

        def step_done(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(step + 1)
            return tensors

        try:
            output = self._pipeline(
                prompt=[spec.prompt] * len(spec.seeds),
                width=spec.width,
                height=spec.height,
                num_inference_steps=spec.steps,
                guidance_scale=0.0,
                max_sequence_length=self.max_sequence_length,
                # Noise is made on the CPU, so that a seed gives the same picture on every device.
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in spec.seeds],
                callback_on_step_end=step_done,
                output_type="latent",
            )
        finally:
            self._pipeline.maybe_free_model_hooks()
        return self._finite(output.images, "latents")

    @torch.no_grad()
    def _decode(self, latents: torch.Tensor, spec: ImageSpec) -> "list[Image]":
        """Pictures of latents, as the last lines of ``FluxPipeline.__call__`` in diffusers 0.42.1 do it."""
        pipeline = self._pipeline
        latents = pipeline._unpack_latents(latents, spec.height, spec.width, pipeline.vae_scale_factor)
        latents = latents / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
        pixels = self._finite(pipeline.vae.decode(latents, return_dict=False)[0], "pixels")
        images: list[Image] = pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    @staticmethod
    def _finite(tensor: torch.Tensor, what: str) -> torch.Tensor:
        if not torch.isfinite(tensor).all():
            raise InvalidOutput(
                f"The model's {what} are not numbers. A LoRA may be damaged or its weight too high: "
                "try without LoRAs, or with a lower weight."
            )
        return tensor
