"""What every FLUX backend shares: one diffusers FluxPipeline, its LoRAs, and one call that draws.

Written against diffusers 0.42.1. A backend is a subclass that says how its pipeline is loaded.
"""

import gc
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import diffusers
import psutil
import torch
import transformers
from diffusers import FluxPipeline
from huggingface_hub.errors import GatedRepoError

from gpu.engines import device_errors
from gpu.engines.adapters import Active, Loras, PeftAdapters
from gpu.engines.backends import Plan
from gpu.engines.errors import DeviceFailed, InvalidOutput, InvalidSize, ModelFailed, OutOfMemory
from gpu.engines.spec import Drawn, EngineConfig, Held, ImageSpec, OnStep

if TYPE_CHECKING:
    from PIL.Image import Image

# Both print the part of a prompt that did not fit; prompts do not belong in logs.
for library in (diffusers.utils.logging, transformers.logging):
    library.set_verbosity_error()
    library.disable_progress_bar()

# Together up to 512 px, alone above, where it gains nothing and the first picture would come late. On an
# H200 four pictures of 512 px took 1.44 times as long as one, and two of 1024 px 1.96 times as long; the demo
# model on a CPU 2.7 times for four of 128 px (bench/engines.py).
BATCH_PIXELS = 512 * 512
LARGEST_BATCH = 4


@dataclass(frozen=True)
class Prompt:
    """An encoded prompt: T5's (1, tokens, 4096), CLIP's (1, 768), and the words that did not fit."""

    embeds: torch.Tensor
    pooled: torch.Tensor
    unread: str


class FluxEngine(ABC):
    """FLUX.1-schnell on one device, as a ``Plan`` says."""

    name: ClassVar[str]
    dtype: torch.dtype = torch.bfloat16
    # Whether the same spec gives the same bytes in any process on the same machine.
    reproducible: ClassVar[bool] = False
    # Whether torch leaves out what only training needs: the demo model draws 128 px in 0.95 of the time, and
    # the same bytes (of 12 pictures). Not while weights are moved, nor with libraries it was not tried with.
    inference_mode: ClassVar[bool] = False

    def __init__(self, config: EngineConfig, plan: Plan) -> None:
        self.config = config
        self.plan = plan
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._pipeline: Any = None
        self._loras: Loras | None = None
        self._prompts: OrderedDict[tuple[str, int, Active], Prompt] = OrderedDict()

    # What a backend says ------------------------------------------------------------------------------

    @abstractmethod
    def _load_pipeline(self) -> FluxPipeline:
        """The pipeline, every component where the plan wants it."""

    def _new_loras(self, pipeline: FluxPipeline) -> Loras:
        return PeftAdapters(pipeline, self.config)

    @property
    def libraries(self) -> tuple[str, ...]:
        """The packages whose versions belong in the recipe."""
        return ("diffusers", "torch")

    # The engine ---------------------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        versions = ", ".join(f"{library} {version(library)}" for library in self.libraries)
        return f"{versions}, {self.plan.precision}"

    @property
    def loaded(self) -> bool:
        return self._pipeline is not None

    def load(self) -> None:
        if self.loaded:
            return
        try:
            pipeline = self._load_pipeline()
        except (OSError, ValueError) as error:
            said = f"{error}{_remedy(error, self.config.model)}"
            raise ModelFailed(f"The model {self.config.model} could not be loaded: {said}") from error
        except (RuntimeError, MemoryError) as error:
            failure = device_errors.told(error) or error
            if isinstance(failure, DeviceFailed):
                raise failure from error
            raise ModelFailed(f"The model {self.config.model} could not be loaded: {failure}") from error
        pipeline.set_progress_bar_config(disable=True)
        self._loras = self._new_loras(pipeline)
        self._pipeline = pipeline

    def held(self) -> Held:
        on_gpu = self.device.type == "cuda"
        everything = torch.cuda.memory_reserved() if on_gpu else psutil.Process().memory_info().rss
        nbytes, sha256 = self._loras.kept() if self._loras else (0, frozenset[str]())
        return Held(max(0, everything - nbytes), nbytes, sha256)

    def unload(self) -> None:
        self._pipeline = self._loras = None
        self._prompts.clear()
        self._free()

    def batch_size(self, width: int, height: int) -> int:
        """1 where a picture must not depend, in its last digits, on those drawn with it."""
        small = width * height <= BATCH_PIXELS
        return LARGEST_BATCH if small and not self.reproducible else 1

    def generate(self, spec: ImageSpec, on_step: OnStep) -> Drawn:
        """Draw; where memory runs out, again one picture at a time and decoded in tiles."""
        _check_sides(spec)
        self.load()
        if drawn := self._attempt(spec, on_step):
            return drawn
        smaller = [replace(spec, seeds=(seed,), vae_tiling=True) for seed in spec.seeds]
        if smaller == [spec]:
            raise self._too_large(spec)
        parts = []
        for one in smaller:
            if (part := self._attempt(one, on_step)) is None:
                raise self._too_large(spec)
            parts.append(part)
        return replace(parts[0], images=tuple(image for part in parts for image in part.images))

    def _attempt(self, spec: ImageSpec, on_step: OnStep) -> Drawn | None:
        """The pictures; None where memory ran out."""
        try:
            return self._draw(spec, on_step)
        except (RuntimeError, MemoryError) as error:
            failure = device_errors.told(error)
            if not isinstance(failure, OutOfMemory):
                raise failure or error from error
        # Out here the exception is gone, and with it the frames that held on to tensors.
        self._free()
        return None

    @staticmethod
    def _too_large(spec: ImageSpec) -> OutOfMemory:
        remedy = "fewer LoRAs, or a smaller size" if spec.loras else "a smaller size"
        return OutOfMemory(
            f"{spec.width} × {spec.height} needs more memory than the device has free, even in tiles. "
            f"Ask for {remedy}, or try again when nothing else uses the device."
        )

    def _free(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # One picture --------------------------------------------------------------------------------------

    @torch.no_grad()
    def _draw(self, spec: ImageSpec, on_step: OnStep) -> Drawn:
        assert self._loras
        try:
            text_loras = self._loras.apply(spec.loras)
            prompt = self._prompt(spec.prompt, text_loras)
            with torch.inference_mode() if self._may_infer else torch.no_grad():
                latents = self._denoise(spec, prompt, on_step)
                images = self._decode(latents, spec)
        finally:
            # A step that raised has skipped this, and components that were moved in would stay.
            self._pipeline.maybe_free_model_hooks()
        return Drawn(tuple(images), len(spec.seeds), spec.vae_tiling, prompt.unread)

    @property
    def _may_infer(self) -> bool:
        return self.inference_mode and not self.plan.offloaded

    def _prompt(self, text: str, text_loras: Active) -> Prompt:
        """The prompt encoded, from memory if it was drawn lately: then T5 is not needed at all."""
        key = (text, self.config.max_sequence_length, text_loras)
        if key in self._prompts:
            self._prompts.move_to_end(key)
            return self._prompts[key]
        embeds, pooled, _ = self._pipeline.encode_prompt(
            text, max_sequence_length=self.config.max_sequence_length, device=self.device
        )
        prompt = self._prompts[key] = Prompt(embeds, pooled, self._unread(text))
        while len(self._prompts) > self.config.prompts:
            self._prompts.popitem(last=False)
        return prompt

    def _unread(self, text: str) -> str:
        """The end of the prompt that T5 does not read. (CLIP reads 77 tokens, for the overall mood.)"""
        limit = self.config.max_sequence_length
        encoded = self._pipeline.tokenizer_2(text, truncation=False, return_offsets_mapping=True)
        if len(encoded.input_ids) <= limit:
            return ""
        # The last token that is read ends the sentence.
        start: int = encoded.offset_mapping[limit - 1][0]
        return text[start:]

    def _denoise(self, spec: ImageSpec, prompt: Prompt, on_step: OnStep) -> torch.Tensor:
        """Packed latents, (pictures, tokens, 64)."""

        def step_done(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(step + 1)
            return tensors

        output = self._pipeline(
            prompt_embeds=prompt.embeds.expand(len(spec.seeds), -1, -1),
            pooled_prompt_embeds=prompt.pooled.expand(len(spec.seeds), -1),
            width=spec.width,
            height=spec.height,
            num_inference_steps=spec.steps,
            guidance_scale=0.0,
            # Noise is made on the CPU, so that a seed gives the same picture on every device.
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in spec.seeds],
            callback_on_step_end=step_done,
            output_type="latent",
        )
        return _finite(output.images, "latents")

    def _decode(self, latents: torch.Tensor, spec: ImageSpec) -> "list[Image]":
        """Pictures of latents, as the last lines of ``FluxPipeline.__call__`` in diffusers 0.42.1 do it."""
        pipeline, vae = self._pipeline, self._pipeline.vae
        (vae.enable_tiling if spec.vae_tiling else vae.disable_tiling)()
        latents = pipeline._unpack_latents(latents, spec.height, spec.width, pipeline.vae_scale_factor)
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
        pixels = _finite(vae.decode(latents, return_dict=False)[0], "pixels")
        images: list[Image] = pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    # For backends -------------------------------------------------------------------------------------

    def _pipeline_of(self, **components: Any) -> FluxPipeline:
        """The model's pipeline, in host memory, with ``components`` in place of its own."""
        return FluxPipeline.from_pretrained(self.config.model, dtype=self.dtype, **components)

    def _place(self, pipeline: FluxPipeline) -> FluxPipeline:
        """Move each component to the device; those the plan offloads come to it group by group instead."""
        for name, component in pipeline.components.items():
            if not isinstance(component, torch.nn.Module):
                continue
            if name in self.plan.offloaded:
                _offload(component, self.device)
            else:
                component.to(self.device)
        return pipeline


def _offload(component: torch.nn.Module, device: torch.device) -> None:
    """Keep a component in host memory, and bring its layers to ``device`` one ahead of the one that computes.

    ``apply_group_offloading`` of diffusers 0.42.1 (``hooks/group_offloading.py``). Never ran on a GPU here.
    """
    diffusers.hooks.apply_group_offloading(
        component,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        use_stream=device.type == "cuda",
    )


def _remedy(error: BaseException, model: str) -> str:
    """What to do where the hub wants to know who downloads; empty otherwise."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, GatedRepoError) or "gated" in str(cause):
            return (
                f" Its owner wants to know who downloads it: accept the conditions on "
                f"https://huggingface.co/{model}, make a token there, and start the workers with HF_TOKEN."
            )
        cause = cause.__cause__ or cause.__context__
    return ""


def _check_sides(spec: ImageSpec) -> None:
    for side in (spec.width, spec.height):
        if side % 16 or side <= 0:
            raise InvalidSize(f"{side} pixels is not a multiple of 16.")


def _finite(tensor: torch.Tensor, what: str) -> torch.Tensor:
    if not torch.isfinite(tensor).all():
        raise InvalidOutput(
            f"The model's {what} are not numbers. A LoRA may be damaged or its weight too high: "
            "try without LoRAs, or with a lower weight."
        )
    return tensor
