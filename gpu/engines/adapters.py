"""LoRAs as peft adapters: loaded once, kept while there is room, and switched before every job."""

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from diffusers import FluxPipeline
from diffusers.utils import set_weights_and_activate_adapters
from diffusers.utils.peft_utils import delete_adapter_layers
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer

from gpu.engines import lora_weights
from gpu.engines.errors import LoraFailed
from gpu.engines.lora_weights import LoraWeights, Shape
from gpu.engines.spec import EngineConfig, LoraRef

# (sha256, weight) of each LoRA that is on, sorted: the same LoRAs in another order draw the same bytes.
Active = tuple[tuple[str, float], ...]


class Loras(Protocol):
    """The LoRAs of a loaded pipeline."""

    def apply(self, loras: Sequence[LoraRef]) -> Active:
        """Make the pipeline's LoRAs exactly these. Returns those that change the text encoder.

        Raises LoraFailed, and then no LoRA is on.
        """

    def kept(self) -> tuple[int, frozenset[str]]:
        """Bytes of the LoRAs that are ready, and the sha256 of their files. From any thread."""


def active(loras: Sequence[LoraRef]) -> Active:
    """What acts: the same file named twice adds up, and a weight of zero is no LoRA."""
    weights: dict[str, float] = {}
    for lora in loras:
        weights[lora.sha256] = weights.get(lora.sha256, 0.0) + lora.weight
    return tuple(sorted((sha256, weight) for sha256, weight in weights.items() if weight))


@dataclass(frozen=True)
class _Resident:
    nbytes: int
    changes_text: bool


class PeftAdapters:
    """Named peft adapters on ``components`` of a pipeline, never merged into its weights.

    Merging and unmerging five times changed 19 % of the BF16 weights of one layer of a tiny FLUX.
    At most ``config.adapters`` stay, of at most ``config.adapter_bytes`` together; those of the job in
    hand stay in any case. ``transformer_shapes``: of a transformer whose layers cannot be asked.
    """

    def __init__(
        self,
        pipeline: FluxPipeline,
        config: EngineConfig,
        components: tuple[str, ...] = ("transformer", "text_encoder"),
        transformer_shapes: Mapping[str, Shape] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._models: dict[str, Any] = {name: getattr(pipeline, name) for name in components}
        self._inject = {"transformer": self._into_transformer, "text_encoder": self._into_text_encoder}
        # Asked once, of the model as it came: adapters change the names of its layers.
        self._transformer_shapes = transformer_shapes or lora_weights.linear_shapes(pipeline.transformer)
        self._text_shapes = lora_weights.linear_shapes(pipeline.text_encoder)
        self._limits = config
        self._resident: OrderedDict[str, _Resident] = OrderedDict()
        self._active: Active | None = None

    def apply(self, loras: Sequence[LoraRef]) -> Active:
        wanted = active(loras)
        if wanted != self._active:
            self._active = None
            self._activate(())
            files = {lora.sha256: lora for lora in loras}
            for sha256, _ in wanted:
                self._require(files[sha256], keep={sha256 for sha256, _ in wanted})
            self._activate(wanted)
            self._active = wanted
        return tuple(chosen for chosen in wanted if self._resident[chosen[0]].changes_text)

    def kept(self) -> tuple[int, frozenset[str]]:
        resident = dict(self._resident)
        return sum(each.nbytes for each in resident.values()), frozenset(resident)

    def _require(self, lora: LoraRef, keep: set[str]) -> None:
        if lora.sha256 in self._resident:
            self._resident.move_to_end(lora.sha256)
            return
        weights = lora_weights.read(lora)
        lora_weights.check(weights, lora.name, self._transformer_shapes, self._text_shapes)
        self._make_room(weights.nbytes, keep)
        try:
            self._load(lora, weights)
        except BaseException:
            self._delete(lora.sha256)
            raise
        self._resident[lora.sha256] = _Resident(weights.nbytes, bool(weights.text_encoder))

    def _make_room(self, nbytes: int, keep: set[str]) -> None:
        """Delete the adapters that were not used for the longest time, until one more fits."""
        for sha256 in [sha256 for sha256 in self._resident if sha256 not in keep]:
            held = sum(resident.nbytes for resident in self._resident.values())
            if len(self._resident) < self._limits.adapters and held + nbytes <= self._limits.adapter_bytes:
                return
            self._delete(sha256)

    def _load(self, lora: LoraRef, weights: LoraWeights) -> None:
        """Add the adapter to each component, and look whether every layer of the file is really there."""
        for component, model in self._models.items():
            layers = getattr(weights, component)
            if layers:
                self._inject[component](_name(lora.sha256), weights)
            if (found := _layers_with(model, _name(lora.sha256))) != set(layers):
                raise LoraFailed(
                    f"{lora.name} has {len(layers)} layers for the {component.replace('_', ' ')}, "
                    f"and {len(found)} of it took one. It was made for another model."
                )

    def _into_transformer(self, adapter: str, weights: LoraWeights) -> None:
        with warnings.catch_warnings():
            # Several adapters are what we want.
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            # To peft 0.21.2 "proj_out" is also each "single_transformer_blocks.#.proj_out". It goes by the
            # file all the same; ``_load`` looks.
            warnings.filterwarnings("ignore", "While injecting the PEFT adapters, an inconsistency")
            # Through the pipeline, which takes offloading off meanwhile.
            self._pipeline.load_lora_into_transformer(
                weights.state_dict(),
                network_alphas=None,
                transformer=self._models["transformer"],
                adapter_name=adapter,
                _pipeline=self._pipeline,
            )

    def _into_text_encoder(self, adapter: str, weights: LoraWeights) -> None:
        """By transformers itself: diffusers 0.42.1 fails where no attention layer is among the layers."""
        ranks = {layer: a.shape[0] for layer, (a, _) in weights.text_encoder.items()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            self._models["text_encoder"].load_adapter(
                adapter_name=adapter,
                # As alpha equals the rank in every layer, nothing is scaled.
                peft_config=LoraConfig(
                    target_modules=list(ranks), rank_pattern=ranks, alpha_pattern=ranks, inference_mode=True
                ),
                adapter_state_dict={
                    f"{layer}.lora_{letter}.weight": tensor
                    for layer, pair in weights.text_encoder.items()
                    for letter, tensor in zip("AB", pair, strict=True)
                },
            )

    def _activate(self, wanted: Active) -> None:
        names, weights = [_name(sha256) for sha256, _ in wanted], [weight for _, weight in wanted]
        for model in self._models.values():
            set_weights_and_activate_adapters(model, names, weights)

    def _delete(self, sha256: str) -> None:
        for model in self._models.values():
            delete_adapter_layers(model, _name(sha256))
        self._resident.pop(sha256, None)


def _name(sha256: str) -> str:
    return f"lora_{sha256}"


def _layers_with(model: Any, adapter: str) -> set[str]:
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer) and adapter in getattr(module, "lora_A", ())
    }
