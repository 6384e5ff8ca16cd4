"""LoRA files of every layout, at the real FLUX's width: what is read is what the file says, or an error."""

import json
import math
import pickle
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from django.conf import settings
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from gpu.engines import LoraFailed, LoraRef
from gpu.engines.lora_weights import LoraWeights, Pair, Shape, check, linear_shapes, read

Tensors = dict[str, torch.Tensor]
Shapes = tuple[dict[str, Shape], dict[str, Shape]]
RANK = 4


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return FluxPipeline.from_pretrained(settings.FLUXSITE_MODEL, dtype=torch.float32)


@pytest.fixture(scope="module")
def tiny(pipeline: Any) -> Shapes:
    """The linear layers of the demo model."""
    return linear_shapes(pipeline.transformer), linear_shapes(pipeline.text_encoder)


@pytest.fixture(scope="module")
def real() -> Shapes:
    """The linear layers of FLUX.1-schnell, of which no weight is made."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=19, num_single_layers=38, guidance_embeds=False)
        clip = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12))
    return linear_shapes(transformer), linear_shapes(clip)


def saved(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> LoraRef:
    path = folder / "lora.safetensors"
    # A file has each of its tensors for itself.
    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, path, metadata)
    return LoraRef("Foggy", path, "0" * 64, 1.0)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Original:
    """A layer as a trainer of Black Forest Labs' own model has it: down (rank, in), up (out, rank), alpha."""

    def __init__(self, out: int, width: int, seed: int, alpha: float) -> None:
        self.down, self.up, self.alpha = noise(RANK, width, seed=seed), noise(out, RANK, seed=-seed), alpha

    @property
    def pair(self) -> Pair:
        return self.down, self.up * (self.alpha / RANK)


def originals(alpha: float, width: int = 3072, doubles: tuple[int, ...] = (0, 18)) -> dict[str, Original]:
    """One of each kind of layer of FLUX, by Black Forest Labs' names, in a few of its blocks."""
    mlp, singles = 4 * width, tuple(block * 2 for block in doubles)
    shapes = {}
    for block in doubles:
        for stream in ("img", "txt"):
            at = f"double_blocks.{block}.{stream}"
            shapes[f"{at}_attn.qkv"] = (3 * width, width)
            shapes[f"{at}_attn.proj"] = (width, width)
            shapes[f"{at}_mlp.0"] = (mlp, width)
            shapes[f"{at}_mlp.2"] = (width, mlp)
            shapes[f"{at}_mod.lin"] = (6 * width, width)
    for block in singles:
        shapes[f"single_blocks.{block}.linear1"] = (3 * width + mlp, width)
        shapes[f"single_blocks.{block}.linear2"] = (width, width + mlp)
        shapes[f"single_blocks.{block}.modulation.lin"] = (3 * width, width)
    shapes |= {
        "img_in": (width, 64),
        "txt_in": (width, 4096 if width == 3072 else 64),
        "time_in.in_layer": (width, 256),
        "time_in.out_layer": (width, width),
        "vector_in.in_layer": (width, 768 if width == 3072 else 64),
        "vector_in.out_layer": (width, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (64, width),
    }
    return {name: Original(*shape, seed, alpha) for seed, (name, shape) in enumerate(shapes.items(), 1)}


DOUBLE = {
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
}
WHOLE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}


def in_diffusers(name: str, original: Original) -> dict[str, Pair]:
    """What becomes of a layer in diffusers' model, alpha folded in."""
    (down, up), width = original.pair, original.down.shape[1]
    if name in WHOLE:
        return {WHOLE[name]: (down, up)}
    if name.startswith("final_layer.adaLN"):
        shift, scale = up[:width], up[width:]
        return {"norm_out.linear": (down, torch.cat([scale, shift]))}
    kind, block, layer = name.split(".", 2)
    if kind == "double_blocks":
        at = f"transformer_blocks.{block}"
        if layer in DOUBLE:
            return {f"{at}.{DOUBLE[layer]}": (down, up)}
        names = {"img": ("to_q", "to_k", "to_v"), "txt": ("add_q_proj", "add_k_proj", "add_v_proj")}[
            layer[:3]
        ]
        return {f"{at}.attn.{n}": (down, up[i * width : (i + 1) * width]) for i, n in enumerate(names)}
    at = f"single_transformer_blocks.{block}"
    if layer == "linear1":
        names = ("attn.to_q", "attn.to_k", "attn.to_v")
        parts = {f"{at}.{n}": (down, up[i * width : (i + 1) * width]) for i, n in enumerate(names)}
        return parts | {f"{at}.proj_mlp": (down, up[3 * width :])}
    return {f"{at}.{'proj_out' if layer == 'linear2' else 'norm.linear'}": (down, up)}


def expected(layers: dict[str, Original]) -> dict[str, Pair]:
    return {m: pair for name, layer in layers.items() for m, pair in in_diffusers(name, layer).items()}


def assert_same_updates(found: dict[str, Pair], wanted: dict[str, Pair], tolerance: float = 1e-5) -> None:
    """Compared by what they do to random inputs: the updates themselves have 66 million numbers each."""
    assert found.keys() == wanted.keys()
    for module, (down, up) in wanted.items():
        inputs = noise(down.shape[1], 8, seed=99)
        ours = found[module][1].float() @ (found[module][0].float() @ inputs)
        theirs = up.float() @ (down.float() @ inputs)
        difference = ((ours - theirs).norm() / theirs.norm()).item()
        assert difference < tolerance, (module, difference)


# The layouts: what each trainer or program writes for the same layers.


def kohya(layers: dict[str, Original]) -> Tensors:
    tensors: Tensors = {}
    for name, layer in layers.items():
        key = "lora_unet_" + name.replace(".", "_")
        tensors |= {f"{key}.lora_down.weight": layer.down, f"{key}.lora_up.weight": layer.up}
        tensors[f"{key}.alpha"] = torch.tensor(layer.alpha)
    return tensors


def comfyui(layers: dict[str, Original]) -> Tensors:
    tensors: Tensors = {}
    for name, layer in layers.items():
        key = f"diffusion_model.{name}"
        tensors |= {f"{key}.lora_down.weight": layer.down, f"{key}.lora_up.weight": layer.up}
        tensors[f"{key}.alpha"] = torch.tensor(layer.alpha)
    return tensors


def bfl(prefix: str) -> Callable[[dict[str, Original]], Tensors]:
    """lora_A and lora_B on Black Forest Labs' names, without alphas, which here are in B."""

    def layout(layers: dict[str, Original]) -> Tensors:
        pairs = {f"{prefix}{name}": layer.pair for name, layer in layers.items()}
        return as_keys(pairs, "lora_A", "lora_B")

    return layout


def diffusers(prefix: str, down: str, up: str) -> Callable[[dict[str, Original]], Tensors]:
    def layout(layers: dict[str, Original]) -> Tensors:
        return as_keys({f"{prefix}{m}": pair for m, pair in expected(layers).items()}, down, up)

    return layout


def diffusers_with_alphas(layers: dict[str, Original]) -> Tensors:
    tensors: Tensors = {}
    for module, (down, up) in expected(layers).items():
        tensors |= as_keys({f"transformer.{module}": (down, up * 8)}, "lora_A", "lora_B")
        tensors[f"transformer.{module}.alpha"] = torch.tensor(RANK / 8)
    return tensors


def onetrainer(layers: dict[str, Original]) -> Tensors:
    tensors: Tensors = {}
    for module, (down, up) in expected(layers).items():
        key = f"lora_transformer_{module.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up * 2}
        tensors[f"{key}.alpha"] = torch.tensor(RANK / 2)
    return tensors


def as_keys(pairs: dict[str, Pair], down: str, up: str) -> Tensors:
    named = {f"{module}.{down}.weight": a for module, (a, _) in pairs.items()}
    return named | {f"{module}.{up}.weight": b for module, (_, b) in pairs.items()}


LAYOUTS = {
    "kohya": kohya,
    "comfyui": comfyui,
    "onetrainer": onetrainer,
    "ai-toolkit": bfl("diffusion_model."),
    "bfl": bfl(""),
    "bfl peft": bfl("base_model.model."),
    "bfl transformer": bfl("transformer."),
    "diffusers": diffusers("transformer.", "lora_A", "lora_B"),
    "diffusers alphas": diffusers_with_alphas,
    "diffusers old": diffusers("transformer.", "lora.down", "lora.up"),
    "diffusers mixed": diffusers("transformer.", "lora_down", "lora_up"),
    "diffusers bare": diffusers("", "lora_A", "lora_B"),
    "peft": diffusers("base_model.model.", "lora_A.default", "lora_B.default"),
    "peft prefixed": diffusers("base_model.model.transformer.", "lora_A", "lora_B"),
}


@pytest.mark.parametrize("alpha", [RANK, 0.5 * RANK, 0.3, -1.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_update_of_the_original(
    layout: str, alpha: float, real: Shapes, tmp_path: Path
) -> None:
    layers = originals(alpha)
    weights = read(saved(tmp_path, LAYOUTS[layout](layers)))
    assert_same_updates(weights.transformer, expected(layers))
    check(weights, "Foggy", *real)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_may_change_a_few_layers_only(layout: str, tmp_path: Path) -> None:
    whole = originals(2.0)
    for chosen in ("final_layer.adaLN_modulation.1", "img_in", "double_blocks.18.txt_attn.qkv"):
        layers = {chosen: whole[chosen]}
        found = read(saved(tmp_path, LAYOUTS[layout](layers)))
        assert_same_updates(found.transformer, expected(layers))


XLABS = {
    "double_blocks.0.processor.qkv_lora1": "double_blocks.0.img_attn.qkv",
    "double_blocks.0.processor.proj_lora1": "double_blocks.0.img_attn.proj",
    "double_blocks.0.processor.qkv_lora2": "double_blocks.0.txt_attn.qkv",
    "double_blocks.0.processor.proj_lora2": "double_blocks.0.txt_attn.proj",
    "single_blocks.36.processor.proj_lora": "single_blocks.36.linear2",
}


@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_xlabs_gives_the_update_of_the_original(prefix: str, real: Shapes, tmp_path: Path) -> None:
    layers = {ours: originals(RANK)[ours] for ours in XLABS.values()}
    qkv = Original(3 * 3072, 3072, 50, RANK)
    wanted = expected(layers)
    for part, name in enumerate(("to_q", "to_k", "to_v")):
        rows = qkv.up[part * 3072 : (part + 1) * 3072]
        wanted[f"single_transformer_blocks.36.attn.{name}"] = (qkv.down, rows)
    pairs = {f"{prefix}{theirs}": layers[ours].pair for theirs, ours in XLABS.items()}
    pairs[f"{prefix}single_blocks.36.processor.qkv_lora"] = qkv.pair
    tensors = as_keys(pairs, "down", "up")
    weights = read(saved(tmp_path, tensors))
    assert_same_updates(weights.transformer, wanted)
    check(weights, "Foggy", *real)
    assert_same_updates(weights.transformer, by_diffusers(tensors))


def by_diffusers(tensors: Tensors) -> dict[str, Pair]:
    """What diffusers' own converter makes of a file."""
    converted = FluxPipeline.lora_state_dict(dict(tensors))
    modules = [key.removesuffix(".lora_A.weight") for key in converted if key.endswith(".lora_A.weight")]
    return {
        module.removeprefix("transformer."): (
            converted[f"{module}.lora_A.weight"],
            converted[f"{module}.lora_B.weight"],
        )
        for module in modules
    }


def test_kohya_is_what_diffusers_makes_of_it(tmp_path: Path) -> None:
    """Final layer included, whose alpha diffusers 0.42.1 ignores: so the alpha is the rank."""
    tensors = kohya(originals(RANK))
    assert_same_updates(read(saved(tmp_path, tensors)).transformer, by_diffusers(tensors))
    blocks = {key: tensor for key, tensor in kohya(originals(1.5)).items() if "final" not in key}
    assert_same_updates(read(saved(tmp_path, blocks)).transformer, by_diffusers(blocks))


# The text encoder.

CLIP_LAYERS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.out_proj",
    "mlp.fc1",
    "mlp.fc2",
)


def clip_pairs(shapes: dict[str, Shape]) -> dict[str, Pair]:
    chosen = {name: shapes[name] for name in (f"encoder.layers.1.{layer}" for layer in CLIP_LAYERS)}
    return {
        name: (noise(RANK, shape[1], seed=seed), noise(shape[0], RANK, seed=-seed))
        for seed, (name, shape) in enumerate(chosen.items(), 1)
    }


@pytest.mark.parametrize(
    ("prefix", "flat", "down", "up"),
    [
        ("lora_te1_text_model_", True, "lora_down", "lora_up"),
        ("lora_te_text_model_", True, "lora_down", "lora_up"),
        ("text_encoder.text_model.", False, "lora_A", "lora_B"),
        ("text_encoder.", False, "lora_A", "lora_B"),
        ("text_encoder.text_model.", False, "lora_linear_layer.down", "lora_linear_layer.up"),
        ("text_encoders.clip_l.transformer.text_model.", False, "lora_down", "lora_up"),
    ],
)
def test_a_lora_of_the_text_encoder_alone_changes_clip_alone(
    prefix: str,
    flat: bool,
    down: str,
    up: str,
    real: Shapes,
    tmp_path: Path,
) -> None:
    pairs = clip_pairs(real[1])
    named = {prefix + (name.replace(".", "_") if flat else name): pair for name, pair in pairs.items()}
    weights = read(saved(tmp_path, as_keys(named, down, up)))
    assert not weights.transformer
    assert_same_updates(weights.text_encoder, pairs)
    check(weights, "Foggy", *real)


# Into a real pipeline: the demo model, 192 wide.


@pytest.fixture(scope="module")
def night() -> Tensors:
    """A LoRA of the demo model, in diffusers' layout."""
    tensors: Tensors = load_file(Path(settings.BASE_DIR) / "demo" / "loras" / "night.safetensors")
    return tensors


def deltas(pipeline: Any, source: LoraWeights | LoraRef) -> LoraWeights:
    """What each layer of the pipeline gets from weights, or from a file read by diffusers; as (1, delta)."""
    file = source.path if isinstance(source, LoraRef) else None
    state: Any = source.state_dict() if isinstance(source, LoraWeights) else str(source.path.parent)
    with warnings.catch_warnings():
        # peft says so where it could have taken "proj_out" for the end of a longer name, and did not.
        warnings.filterwarnings("ignore", "While injecting the PEFT adapters, an inconsistency")
        pipeline.load_lora_weights(state, adapter_name="mine", **({"weight_name": file.name} if file else {}))
    try:
        found = {
            component: {
                name: (torch.eye(layer.in_features), layer.get_delta_weight("mine").clone())
                for name, layer in getattr(pipeline, component).named_modules()
                if isinstance(layer, LoraLayer) and "mine" in layer.lora_A
            }
            for component in ("transformer", "text_encoder")
        }
    finally:
        pipeline.unload_lora_weights()
    return LoraWeights(**found)


def tiny_pairs(shapes: dict[str, Shape], rank: Callable[[int], int]) -> dict[str, Pair]:
    return {
        module: (noise(rank(seed), shape[1], seed=seed), noise(shape[0], rank(seed), seed=-seed))
        for seed, (module, shape) in enumerate(shapes.items(), 1)
    }


def test_adapters_are_exactly_the_layers_that_were_read(pipeline: Any, tiny: Shapes, tmp_path: Path) -> None:
    """Final layers, whose names end the names of others, and layers of different ranks included."""
    transformer = {
        module: shape for module, shape in tiny[0].items() if "blocks.1" in module or "." not in module
    }
    named = {
        f"transformer.{m}": pair for m, pair in tiny_pairs(transformer, lambda seed: 1 + seed % 5).items()
    }
    named |= {f"text_encoder.{m}": pair for m, pair in tiny_pairs(tiny[1], lambda seed: 1 + seed % 3).items()}
    weights = read(saved(tmp_path, as_keys(named, "lora_A", "lora_B")))
    check(weights, "Foggy", *tiny)
    found = deltas(pipeline, weights)
    assert_same_updates(found.transformer, weights.transformer)
    assert_same_updates(found.text_encoder, weights.text_encoder)


def test_a_kohya_file_of_the_small_model_loads_too(pipeline: Any, tiny: Shapes, tmp_path: Path) -> None:
    """diffusers' converter knows the layers of the full-size FLUX only."""
    layers = originals(2.0, width=192, doubles=(0, 1))
    chosen = saved(tmp_path, kohya(layers))
    with pytest.raises(AssertionError):
        FluxPipeline.lora_state_dict(load_file(chosen.path))
    weights = read(chosen)
    check(weights, "Foggy", *tiny)
    assert_same_updates(deltas(pipeline, weights).transformer, expected(layers))


PEFT: list[tuple[dict[str, Any], float]] = [
    ({"r": 4, "lora_alpha": 4}, 1),
    ({"r": 4, "lora_alpha": 1.5}, 0.375),
    ({"r": 4, "lora_alpha": 8, "use_rslora": True, "use_dora": False, "init_lora_weights": "gaussian"}, 4),
    ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"to_q": 2, "1.norm.linear": 3}}, 2),
    ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"^proj_out": 2, "transformer_blocks.0.attn.to_k": 3}}, 0.5),
    ({"r": 9, "lora_alpha": 9, "rank_pattern": {"^proj_out": 4, "^x_embedder": 4}}, 2.25),
]


@pytest.mark.parametrize(("config", "scale"), PEFT)
def test_alphas_in_the_metadata_are_applied_as_peft_does(
    config: dict[str, Any], scale: float, pipeline: Any, tiny: Shapes, tmp_path: Path
) -> None:
    """``scale``: that of the final layer."""
    shapes = tiny[0] if config["r"] == 4 else {name: tiny[0][name] for name in ("proj_out", "x_embedder")}
    pairs = tiny_pairs(shapes, lambda seed: 4)
    told = config | {"target_modules": list(shapes)}
    metadata = {"lora_adapter_metadata": json.dumps({f"transformer.{key}": told[key] for key in told})}
    tensors = as_keys({f"transformer.{module}": pair for module, pair in pairs.items()}, "lora_A", "lora_B")
    chosen = saved(tmp_path, tensors, metadata)
    found, (down, up) = read(chosen).transformer, pairs["proj_out"]
    assert_same_updates(found, deltas(pipeline, chosen).transformer)
    assert_same_updates({"proj_out": found["proj_out"]}, {"proj_out": (down, up * scale)})


def test_a_text_encoder_has_its_own_alpha(tiny: Shapes, tmp_path: Path) -> None:
    pairs = clip_pairs(tiny[1])
    named = {f"text_encoder.text_model.{name}": pair for name, pair in pairs.items()}
    settings = {
        "text_encoder.r": 4,
        "text_encoder.lora_alpha": 8,
        "transformer.r": 1,
        "transformer.lora_alpha": 7,
    }
    settings_of_a_layer = {"text_encoder.alpha_pattern": {"^text_model.encoder.layers.1.mlp.fc1": 2}}
    metadata = {"lora_adapter_metadata": json.dumps(settings | settings_of_a_layer)}
    found = read(saved(tmp_path, as_keys(named, "lora_A", "lora_B"), metadata))
    scales = {name: 0.5 if name.endswith("fc1") else 2.0 for name in pairs}
    assert_same_updates(found.text_encoder, {name: (a, b * scales[name]) for name, (a, b) in pairs.items()})


# Files that cannot be used.


def layer(name: str, width: int = 192, down: str = "lora_A", up: str = "lora_B") -> Tensors:
    return as_keys({name: (noise(4, width), noise(width, 4))}, down, up)


TO_Q = "transformer.transformer_blocks.0.attn.to_q"
A, B, ALPHA = f"{TO_Q}.lora_A.weight", f"{TO_Q}.lora_B.weight", f"{TO_Q}.alpha"
QKV = "diffusion_model.double_blocks.0.img_attn.qkv"
KOHYA = ("lora_down", "lora_up")

REFUSED: dict[str, tuple[Tensors, str]] = {
    "SD 1.5": (layer("unet.up_blocks.1.attentions.0.to_q"), "1 of its 1 layer is for Stable Diffusion"),
    "SDXL": (
        layer("unet.mid_block.attentions.0.to_q", 1280) | layer("text_encoder_2.text_model.x"),
        "2 of its 2 layers are for Stable Diffusion",
    ),
    "SDXL kohya": (
        layer("lora_unet_input_blocks_4_1_proj_in", 640, *KOHYA)
        | layer("lora_te2_text_model_x", 1280, *KOHYA),
        "for Stable Diffusion",
    ),
    "SD 1.5 kohya": (
        layer("lora_unet_down_blocks_1_attentions_0_proj_in", 320, *KOHYA),
        "for Stable Diffusion",
    ),
    "Wan": (layer("diffusion_model.blocks.0.self_attn.q"), "for Wan"),
    "Wan kohya": (layer("lora_unet_blocks_0_cross_attn_q", 192, *KOHYA), "for Wan"),
    "FLUX.2": (layer("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"), "for FLUX.2"),
    "HunyuanVideo": (layer("diffusion_model.double_blocks.0.img_attn_qkv"), "unknown to FLUX"),
    "half garbage": (
        layer(TO_Q) | layer("garbage.0") | layer("garbage.1"),
        "2 of its 3 layers are unknown to FLUX",
    ),
    "mostly garbage": (
        layer("unet.x") | layer("garbage.0") | layer("garbage.1"),
        r"2 of its 3 layers are unknown to FLUX \(garbage.0\)",
    ),
    "another prefix": (layer("teacher.text_encoder.encoder.layers.0.mlp.fc1", 64), "unknown to FLUX"),
    "no such layer": (
        layer(TO_Q) | layer("transformer.transformer_blocks.19.attn.to_q"),
        r"1 of its 2 layers is not in this model \(transformer_blocks.19.attn.to_q\)",
    ),
    "guidance": (layer("lora_unet_guidance_in_in_layer", 192, *KOHYA), "not in this model"),
    "no such text layer": (layer("text_encoder.encoder.layers.40.mlp.fc1"), "not in this model"),
    "LoKr": ({"lycoris_blocks_0.lokr_w1": noise(4, 4), "lycoris_blocks_0.alpha": noise(1)}, "it is a LoKr"),
    "LoHa": ({"lora_unet_img_in.hada_w1_a": noise(4, 4)}, "it is a LoHa"),
    "DoRA": (
        layer("lora_unet_img_in", 192, *KOHYA) | {"lora_unet_img_in.dora_scale": noise(192, 1)},
        "a DoRA",
    ),
    "DoRA peft": (layer(TO_Q) | {f"{TO_Q}.lora_magnitude_vector.weight": noise(192)}, "a DoRA"),
    "control": (
        {
            "transformer.x_embedder.lora_A.weight": noise(4, 128),
            "transformer.x_embedder.lora_B.weight": noise(192, 4),
        },
        "control LoRA, which needs a picture: it reads 128 channels, not 64",
    ),
    "control norms": (
        layer("img_in") | {"double_blocks.0.img_attn.norm.key_norm.scale": noise(32)},
        "control LoRA",
    ),
    "no names of a LoRA": (
        {"transformer_blocks.0.attn.to_q.weight": noise(4, 4)},
        "there is no LoRA in the file",
    ),
    "no tensors": ({}, "there is no LoRA in the file"),
    "full weights too": (
        layer(TO_Q) | {"transformer.proj_out.weight": noise(64, 192)},
        "1 of its tensors .* lost",
    ),
    "another width": (layer(TO_Q, 256), "to_q goes from 256 to 256 in the LoRA, from 192 to 192 here"),
    "another input": (
        {A: noise(4, 96), B: noise(192, 4)},
        "goes from 96 to 192 in the LoRA, from 192 to 192",
    ),
    "ranks differ": ({A: noise(4, 192), B: noise(192, 8)}, "different ranks, 4 and 8"),
    "no B": ({A: noise(4, 192)}, f"the half B of {TO_Q} is missing"),
    "no A": ({B: noise(192, 4)}, f"the half A of {TO_Q} is missing"),
    "one dimension": ({A: noise(192), B: noise(192, 4)}, "has 1 dimensions"),
    "a convolution": ({A: noise(4, 192, 1, 1), B: noise(192, 4, 1, 1)}, "has 4 dimensions"),
    "rank 0": ({A: noise(0, 192), B: noise(192, 0)}, "is empty"),
    "width 0": ({A: noise(4, 0), B: noise(192, 4)}, "is empty"),
    "whole numbers": ({A: torch.ones(4, 192, dtype=torch.int64), B: noise(192, 4)}, "is int64"),
    "yes and no": ({A: torch.ones(4, 192, dtype=torch.bool), B: noise(192, 4)}, "is bool"),
    "complex": ({A: torch.ones(4, 192, dtype=torch.complex64), B: noise(192, 4)}, "is complex64"),
    "NaN": ({A: noise(4, 192) * math.nan, B: noise(192, 4)}, "not all finite"),
    "infinity": ({A: noise(4, 192), B: noise(192, 4) / 0}, "not all finite"),
    "NaN times zero": (
        {A: noise(4, 192) * math.nan, B: noise(192, 4), ALPHA: torch.tensor(0)},
        "not all finite",
    ),
    "too big for float16": (
        {A: noise(4, 192).half(), B: noise(192, 4).half(), ALPHA: torch.tensor(1e12)},
        "not all finite",
    ),
    "alpha NaN": (layer(TO_Q) | {ALPHA: torch.tensor(math.nan)}, "an alpha or a rank in it"),
    "alpha infinite": (layer(TO_Q) | {ALPHA: torch.tensor(math.inf)}, "an alpha or a rank in it"),
    "two alphas": (layer(TO_Q) | {ALPHA: torch.ones(2)}, "an alpha or a rank in it"),
    "alpha of no number": (layer(TO_Q) | {ALPHA: torch.tensor(True)}, "an alpha or a rank in it"),
    "T5": (layer("lora_te3_encoder_block_0_layer_0_q", 192, *KOHYA), "for the T5 text encoder, which stays"),
    "T5 of ComfyUI": (
        layer(TO_Q) | layer("text_encoders.t5xxl.transformer.x"),
        "1 of its 2 layers is for the T5",
    ),
    "T5 of diffusers": (layer("text_encoder_2.encoder.block.0.x"), "for the T5"),
    "text projection": (layer("lora_te1_text_projection", 192, *KOHYA), "unknown to FLUX"),
    "bias": (layer(TO_Q) | {f"{TO_Q}.lora_B.bias": noise(192)}, "1 of its tensors belong to no LoRA"),
    "diff": (layer(TO_Q) | {"lora_unet_img_in.diff_b": noise(192)}, "1 of its tensors belong to no LoRA"),
    "norm diff": (
        layer(TO_Q) | {"diffusion_model.norm.diff": noise(192)},
        "1 of its tensors belong to no LoRA",
    ),
    "twice": (
        layer(TO_Q) | layer("transformer_blocks.0.attn.to_q"),
        "changes transformer_blocks.0.attn.to_q twice",
    ),
    "two spellings": (layer(TO_Q) | layer(TO_Q, 192, *KOHYA), f"it gives {TO_Q} twice"),
    "qkv in halves": (as_keys({QKV: (noise(4, 192), noise(577, 4))}, *KOHYA), "577 rows of .* into 3 layers"),
    "linear1 too short": (
        as_keys({"single_blocks.0.linear1": (noise(4, 192), noise(576, 4))}, *KOHYA),
        "576 rows of .* into 4 layers",
    ),
    "a name to break sentences": (layer("\0<script>" + "x" * 300), r"unknown to FLUX \(\?<script>x{71}\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(
    case: str, tiny: Shapes, tmp_path: Path
) -> None:
    tensors, reason = REFUSED[case]
    with pytest.raises(LoraFailed, match=f"^Foggy cannot be used: .*{reason}.*\\.$"):
        check(read(saved(tmp_path, tensors)), "Foggy", *tiny)


NOTHING = {
    "T5 of zeros": as_keys({"lora_te3_encoder_block_0": (noise(4, 192), torch.zeros(192, 4))}, *KOHYA),
    "projection of zeros": as_keys(
        {"lora_te1_text_projection": (noise(4, 192), torch.zeros(192, 4))}, *KOHYA
    ),
    "diffs of zeros": {
        "lora_unet_img_in.diff_b": torch.zeros(192),
        "diffusion_model.norm.diff": torch.zeros(3),
    },
    "bias of zeros": {f"{TO_Q}.lora_B.bias": torch.zeros(192)},
    "an alpha of nothing": {"lora_te3_encoder_block_0.alpha": torch.tensor(4.0)},
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_changes_nothing_is_left_out(case: str, tiny: Shapes, tmp_path: Path) -> None:
    weights = read(saved(tmp_path, layer(TO_Q) | NOTHING[case]))
    check(weights, "Foggy", *tiny)
    assert list(weights.state_dict()) == [A, B]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("{", "damaged"),
        ("[1]", "damaged"),
        ('["transformer.r"]', "damaged"),
        ("5", "damaged"),
        ("[" * 100_000, "damaged"),
        ({"r": 4}, "an alpha or a rank in it is missing"),
        ({"lora_alpha": 4}, "an alpha or a rank in it is missing"),
        ({"r": 4, "lora_alpha": "much"}, "not a sensible number"),
        ({"r": 4, "lora_alpha": 10**400}, "not a sensible number"),
        ({"r": 4, "lora_alpha": math.nan}, "not a sensible number"),
        ({"r": 8, "lora_alpha": 8}, "the rank 8, its weights have 4"),
        ({"r": 4, "lora_alpha": 4, "rank_pattern": {"to_q": 2}}, "the rank 2, its weights have 4"),
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": ["to_q"]}, "damaged"),
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": {r"(\w+\.?)+!": 1}}, "a pattern that is not a name"),
        ({"r": 4, "lora_alpha": 4, "use_dora": True}, "it is a DoRA"),
        ({"r": 4, "lora_alpha": 4, "init_lora_weights": "pissa_niter_4"}, "the other half"),
    ],
)
def test_metadata_of_peft_that_make_no_sense_are_refused(
    metadata: str | dict[str, Any], reason: str, tmp_path: Path
) -> None:
    if isinstance(metadata, dict):
        metadata = json.dumps({f"transformer.{key}": value for key, value in metadata.items()})
    with pytest.raises(LoraFailed, match=f"^Foggy cannot be used: .*{reason}"):
        read(saved(tmp_path, layer(TO_Q), {"lora_adapter_metadata": metadata}))


def test_one_alpha_is_enough(tmp_path: Path) -> None:
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 4})}
    with pytest.raises(LoraFailed, match="and others in its metadata"):
        read(saved(tmp_path, layer(TO_Q) | {ALPHA: torch.tensor(4.0)}, metadata))
    patterns = {"transformer.r": 4, "transformer.lora_alpha": 4, "transformer.alpha_pattern": {"to_q": 1}}
    with pytest.raises(LoraFailed, match=r"one layer the alphas of transformer_blocks\.0\.attn\.to_q and"):
        read(saved(tmp_path, layer(QKV), {"lora_adapter_metadata": json.dumps(patterns)}))


# Numbers and memory.


@pytest.mark.parametrize("alpha", [4, 2, 0.25, 2**-12, 1 / 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_folding_keeps_the_type_and_its_precision(dtype: torch.dtype, alpha: float, tmp_path: Path) -> None:
    a, b = noise(4, 192).to(dtype), (noise(192, 4, seed=1) / 100).to(dtype)
    (found,) = read(saved(tmp_path, {A: a, B: b, ALPHA: torch.tensor(alpha)})).transformer.values()
    assert {tensor.dtype for tensor in found} == {dtype}
    tolerance = 4 * torch.finfo(torch.float32).eps
    if math.frexp(alpha)[0] != 0.5:
        tolerance = 4 * torch.finfo(dtype).eps  # A is rounded once more
    elif dtype == torch.float16:
        tolerance = 1e-3  # the smallest numbers have fewer digits
    assert_same_updates({"q": found}, {"q": (a, b.float() * (alpha / 4))}, tolerance)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_becomes_bfloat16_without_loss(dtype: torch.dtype, tmp_path: Path) -> None:
    a, b = noise(4, 192).to(dtype), noise(192, 4).to(dtype)
    found = read(saved(tmp_path, {A: a, B: b})).transformer["transformer_blocks.0.attn.to_q"]
    for ours, theirs in zip(found, (a, b), strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.equal(ours.float(), theirs.float())


def test_huge_numbers_are_numbers(tmp_path: Path) -> None:
    """The picture will not be finite, which the engine says."""
    (pair,) = read(saved(tmp_path, {A: torch.full((4, 192), 1e30), B: noise(192, 4)})).transformer.values()
    assert pair[0].max() == 1e30


def test_an_alpha_of_zero_is_no_change(tmp_path: Path) -> None:
    ((down, up),) = read(saved(tmp_path, layer(TO_Q) | {ALPHA: torch.tensor(0.0)})).transformer.values()
    assert not (up @ down).any()


def test_memory_is_that_of_a_model_with_the_lora(tmp_path: Path) -> None:
    """peft and nunchaku give q, k and v an A each, also where the file has one for the three."""
    weights = read(saved(tmp_path, as_keys({QKV: (noise(4, 192), noise(576, 4))}, "lora_A", "lora_B")))
    assert weights.nbytes == (3 * 4 * 192 + 576 * 4) * 4
    assert len({down.data_ptr() for down, _ in weights.transformer.values()}) == 1


# The model's layers.


def test_the_real_model_has_its_layers(real: Shapes) -> None:
    transformer, clip = real
    assert len(transformer) == 19 * 14 + 38 * 6 + 8
    assert transformer["single_transformer_blocks.37.proj_mlp"] == (12288, 3072)
    assert transformer["norm_out.linear"] == (6144, 3072)
    assert len(clip) == 12 * 6


def test_layers_with_adapters_keep_their_names(pipeline: Any, tiny: Shapes, night: Tensors) -> None:
    pipeline.load_lora_weights(dict(night), adapter_name="night")
    try:
        assert linear_shapes(pipeline.transformer) == tiny[0]
    finally:
        pipeline.unload_lora_weights()


def test_quantised_layers_keep_their_shapes() -> None:
    torchao = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(nn.Linear(64, 192))
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    assert linear_shapes(model) == {"0": (192, 64)}


# Damaged files.


def written(folder: Path, content: bytes) -> LoraRef:
    path = folder / "lora.safetensors"
    path.write_bytes(content)
    return LoraRef("Foggy", path, "0" * 64, 1.0)


def headed(shape: list[int], dtype: str = "F32", size: int = 0) -> bytes:
    header = json.dumps({A: {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\0" * 64,
        b"PK\3\4" + b"\0" * 100,
        b"<!doctype html><title>Not found</title>",
        pickle.dumps({"lora": [1.0]}),
        struct.pack("<Q", 2**62) + b"{}",
        headed([0, 2**40]),
        headed([0, 2**63]),
        headed([1] * 100_000, size=4),
        headed([2, 4], "F4", 4),
        headed([4, 1], "F8_E8M0", 4),
        headed([4, 1], "F6_E2M3", 3),
    ],
    ids=range(13),
)
def test_what_is_no_lora_file_is_an_error(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(LoraFailed, match=r"^Foggy c"):
        read(written(tmp_path, content))


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_an_error_or_a_lora(seed: int, tiny: Shapes, tmp_path: Path) -> None:
    """Bytes flipped in the header or anywhere, or the end cut off."""
    chance = random.Random(seed)
    tensors = kohya(originals(2.0, width=192, doubles=(0,))) | layer(
        "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    )
    metadata = {"lora_adapter_metadata": "{}"}
    content = bytearray(saved(tmp_path, tensors, metadata).path.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(header if seed % 2 else len(content))] ^= 1 << chance.randrange(8)
    if seed % 5 == 0:
        del content[chance.randrange(len(content)) :]
    try:
        weights = read(written(tmp_path, bytes(content)))
        check(weights, "Foggy", *tiny)
    except LoraFailed as error:
        assert str(error).startswith("Foggy c")  # noqa: PT017
    else:
        assert all(tensor.isfinite().all() for tensor in weights.state_dict().values())


def test_a_missing_file_is_an_error_that_does_not_tell_where(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(LoraFailed, match=r"^Foggy could not be read") as raised:
            read(LoraRef("Foggy", path, "0" * 64, 1.0))
        assert str(tmp_path) not in str(raised.value)
