"""LoRA files of every layout, at the real FLUX's width: what is read is what the file says, or an error."""

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn

from gpu.engines import LoraFailed, LoraRef
from gpu.engines.lora_weights import LoraWeights, Pair, Shape, check, linear_shapes, read
from loras.inspection import inspect
from tests.gpu.engines.lora_files import (
    ALPHA,
    QKV,
    RANK,
    TO_Q,
    A,
    B,
    Original,
    Shapes,
    Tensors,
    as_keys,
    kohya,
    lora_on,
    noise,
    originals,
    saved,
)

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
    file = saved(tmp_path, LAYOUTS[layout](layers))
    weights = read(as_promised(file))
    assert_same_updates(weights.transformer, expected(layers))
    check(weights, "Foggy", *real)


def as_promised(lora: LoraRef) -> LoraRef:
    """With what the library, which knows no torch, says of it."""
    facts = inspect(lora.path, "flux1", "FLUX.1-schnell")
    assert facts.admissible, facts.reason
    return replace(lora, modules=facts.changes)


def test_a_file_that_changes_less_than_it_promised_is_not_used(tmp_path: Path) -> None:
    file = as_promised(saved(tmp_path, kohya(originals(2.0))))
    promised = file.modules or 0
    with pytest.raises(LoraFailed, match=rf"promises to change {promised + 1} modules.*and {promised} were"):
        read(replace(file, modules=promised + 1))


def test_a_file_that_was_changed_on_disk_is_not_used(tmp_path: Path) -> None:
    file = saved(tmp_path, lora_on(TO_Q))
    content = bytearray(file.path.read_bytes())
    content[-1] ^= 1
    file.path.write_bytes(content)
    with pytest.raises(LoraFailed, match=r"^Foggy could not be read: its file was changed"):
        read(file)


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
    weights = read(as_promised(saved(tmp_path, tensors)))
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
    ((down, up),) = read(saved(tmp_path, lora_on(TO_Q) | {ALPHA: torch.tensor(0.0)})).transformer.values()
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
