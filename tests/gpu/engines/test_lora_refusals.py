"""LoRA files that cannot be used: each is refused with its reason, and never with another error."""

import json
import math
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu.engines import LoraFailed, LoraRef
from gpu.engines.lora_weights import check, read
from tests.gpu.engines.lora_files import (
    ALPHA,
    KOHYA,
    QKV,
    TO_Q,
    A,
    B,
    Shapes,
    Tensors,
    as_keys,
    kohya,
    lora_on,
    noise,
    originals,
    saved,
)

# Files that cannot be used.


REFUSED: dict[str, tuple[Tensors, str]] = {
    "SD 1.5": (lora_on("unet.up_blocks.1.attentions.0.to_q"), "1 of its 1 layer is for Stable Diffusion"),
    "SDXL": (
        lora_on("unet.mid_block.attentions.0.to_q", 1280) | lora_on("text_encoder_2.text_model.x"),
        "2 of its 2 layers are for Stable Diffusion",
    ),
    "SDXL kohya": (
        lora_on("lora_unet_input_blocks_4_1_proj_in", 640, *KOHYA)
        | lora_on("lora_te2_text_model_x", 1280, *KOHYA),
        "for Stable Diffusion",
    ),
    "SD 1.5 kohya": (
        lora_on("lora_unet_down_blocks_1_attentions_0_proj_in", 320, *KOHYA),
        "for Stable Diffusion",
    ),
    "Wan": (lora_on("diffusion_model.blocks.0.self_attn.q"), "for Wan"),
    "Wan kohya": (lora_on("lora_unet_blocks_0_cross_attn_q", 192, *KOHYA), "for Wan"),
    "FLUX.2": (lora_on("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"), "for FLUX.2"),
    "HunyuanVideo": (lora_on("diffusion_model.double_blocks.0.img_attn_qkv"), "unknown to FLUX"),
    "half garbage": (
        lora_on(TO_Q) | lora_on("garbage.0") | lora_on("garbage.1"),
        "2 of its 3 layers are unknown to FLUX",
    ),
    "mostly garbage": (
        lora_on("unet.x") | lora_on("garbage.0") | lora_on("garbage.1"),
        r"2 of its 3 layers are unknown to FLUX \(garbage.0\)",
    ),
    "another prefix": (lora_on("teacher.text_encoder.encoder.layers.0.mlp.fc1", 64), "unknown to FLUX"),
    "no such layer": (
        lora_on(TO_Q) | lora_on("transformer.transformer_blocks.19.attn.to_q"),
        r"1 of its 2 layers is not in this model \(transformer_blocks.19.attn.to_q\)",
    ),
    "guidance": (lora_on("lora_unet_guidance_in_in_layer", 192, *KOHYA), "not in this model"),
    "no such text layer": (lora_on("text_encoder.encoder.layers.40.mlp.fc1"), "not in this model"),
    "LoKr": ({"lycoris_blocks_0.lokr_w1": noise(4, 4), "lycoris_blocks_0.alpha": noise(1)}, "it is a LoKr"),
    "LoHa": ({"lora_unet_img_in.hada_w1_a": noise(4, 4)}, "it is a LoHa"),
    "DoRA": (
        lora_on("lora_unet_img_in", 192, *KOHYA) | {"lora_unet_img_in.dora_scale": noise(192, 1)},
        "a DoRA",
    ),
    "DoRA peft": (lora_on(TO_Q) | {f"{TO_Q}.lora_magnitude_vector.weight": noise(192)}, "a DoRA"),
    "control": (
        {
            "transformer.x_embedder.lora_A.weight": noise(4, 128),
            "transformer.x_embedder.lora_B.weight": noise(192, 4),
        },
        "control LoRA, which needs a picture: it reads 128 channels, not 64",
    ),
    "control norms": (
        lora_on("img_in") | {"double_blocks.0.img_attn.norm.key_norm.scale": noise(32)},
        "control LoRA",
    ),
    "no names of a LoRA": (
        {"transformer_blocks.0.attn.to_q.weight": noise(4, 4)},
        "there is no LoRA in the file",
    ),
    "no tensors": ({}, "there is no LoRA in the file"),
    "full weights too": (
        lora_on(TO_Q) | {"transformer.proj_out.weight": noise(64, 192)},
        "1 of its tensors .* lost",
    ),
    "another width": (lora_on(TO_Q, 256), "to_q goes from 256 to 256 in the LoRA, from 192 to 192 here"),
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
    "alpha NaN": (lora_on(TO_Q) | {ALPHA: torch.tensor(math.nan)}, "an alpha or a rank in it"),
    "alpha infinite": (lora_on(TO_Q) | {ALPHA: torch.tensor(math.inf)}, "an alpha or a rank in it"),
    "two alphas": (lora_on(TO_Q) | {ALPHA: torch.ones(2)}, "an alpha or a rank in it"),
    "alpha of no number": (lora_on(TO_Q) | {ALPHA: torch.tensor(True)}, "an alpha or a rank in it"),
    "T5": (
        lora_on("lora_te3_encoder_block_0_layer_0_q", 192, *KOHYA),
        "for the T5 text encoder, which stays",
    ),
    "T5 of ComfyUI": (
        lora_on(TO_Q) | lora_on("text_encoders.t5xxl.transformer.x"),
        "1 of its 2 layers is for the T5",
    ),
    "T5 of diffusers": (lora_on("text_encoder_2.encoder.block.0.x"), "for the T5"),
    "text projection": (lora_on("lora_te1_text_projection", 192, *KOHYA), "unknown to FLUX"),
    "bias": (lora_on(TO_Q) | {f"{TO_Q}.lora_B.bias": noise(192)}, "1 of its tensors belong to no LoRA"),
    "diff": (lora_on(TO_Q) | {"lora_unet_img_in.diff_b": noise(192)}, "1 of its tensors belong to no LoRA"),
    "norm diff": (
        lora_on(TO_Q) | {"diffusion_model.norm.diff": noise(192)},
        "1 of its tensors belong to no LoRA",
    ),
    "twice": (
        lora_on(TO_Q) | lora_on("transformer_blocks.0.attn.to_q"),
        "changes transformer_blocks.0.attn.to_q twice",
    ),
    "two spellings": (lora_on(TO_Q) | lora_on(TO_Q, 192, *KOHYA), f"it gives {TO_Q} twice"),
    "qkv in halves": (as_keys({QKV: (noise(4, 192), noise(577, 4))}, *KOHYA), "577 rows of .* into 3 layers"),
    "linear1 too short": (
        as_keys({"single_blocks.0.linear1": (noise(4, 192), noise(576, 4))}, *KOHYA),
        "576 rows of .* into 4 layers",
    ),
    "a name to break sentences": (
        lora_on("\0<script>" + "x" * 300),
        r"unknown to FLUX \(\?<script>x{71}\)",
    ),
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
    weights = read(saved(tmp_path, lora_on(TO_Q) | NOTHING[case]))
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
        read(saved(tmp_path, lora_on(TO_Q), {"lora_adapter_metadata": metadata}))


def test_one_alpha_is_enough(tmp_path: Path) -> None:
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 4})}
    with pytest.raises(LoraFailed, match="and others in its metadata"):
        read(saved(tmp_path, lora_on(TO_Q) | {ALPHA: torch.tensor(4.0)}, metadata))
    patterns = {"transformer.r": 4, "transformer.lora_alpha": 4, "transformer.alpha_pattern": {"to_q": 1}}
    with pytest.raises(LoraFailed, match=r"one layer the alphas of transformer_blocks\.0\.attn\.to_q and"):
        read(saved(tmp_path, lora_on(QKV), {"lora_adapter_metadata": json.dumps(patterns)}))


# Damaged files.


def written(folder: Path, content: bytes) -> LoraRef:
    path = folder / "lora.safetensors"
    path.write_bytes(content)
    return LoraRef.of(path, name="Foggy")


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
    tensors = kohya(originals(2.0, width=192, doubles=(0,))) | lora_on(
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
