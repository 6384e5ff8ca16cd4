"""What a file is, by its layers; and for whom it is refused."""

import hashlib
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from loras.inspection import Inspection, Range, inspect
from tests.loras import files
from tests.loras.files import kohya, pair

DEMO_LORAS = Path(__file__).parents[2] / "demo" / "loras"
DOWN_UP = ("lora_down", "lora_up")


def inspected(folder: Path, tensors: files.Tensors, **metadata: str) -> Inspection:
    return inspect(files.written(folder, files.safetensors(tensors, metadata)), "flux1", "FLUX.1-schnell")


def peft(name: str, rows: int = 3072, columns: int = 3072) -> files.Tensors:
    return pair(f"transformer.{name}", rows, columns)


FLUX: dict[str, tuple[files.Tensors, str]] = {
    "diffusers": (
        peft("transformer_blocks.18.attn.to_q") | peft("single_transformer_blocks.37.attn.to_k"),
        "diffusers",
    ),
    "peft": (pair("base_model.model.transformer_blocks.0.attn.to_q", 3072, 3072), "diffusers"),
    "one layer that leads back": (peft("single_transformer_blocks.0.proj_out", 3072, 15360), "diffusers"),
    "kohya": (
        kohya("double_blocks_0_img_attn_qkv", 9216, 3072) | kohya("single_blocks_3_linear1", 21504, 3072),
        "kohya",
    ),
    "kohya with CLIP": (
        kohya("double_blocks_0_img_mlp_0", 12288, 3072)
        | pair("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", 768, 768, 1, *DOWN_UP),
        "kohya",
    ),
    "OneTrainer": (pair("lora_transformer_transformer_blocks_0_attn_to_q", 3072, 3072, 1, *DOWN_UP), "kohya"),
    "ai-toolkit": (pair("diffusion_model.double_blocks.0.img_attn.qkv", 9216, 3072), "ai-toolkit"),
    "XLabs": (
        {
            "double_blocks.0.processor.qkv_lora1.down.weight": ("F32", (16, 3072)),
            "double_blocks.0.processor.qkv_lora1.up.weight": ("F32", (9216, 16)),
        },
        "xlabs",
    ),
}


@pytest.mark.parametrize(("tensors", "layout"), FLUX.values(), ids=FLUX)
def test_flux_1_in_every_layout(tmp_path: Path, tensors: files.Tensors, layout: str) -> None:
    facts = inspected(tmp_path, tensors)
    assert (facts.family, facts.layout, facts.reason) == ("flux1", layout, "")
    assert facts.admissible
    demo = inspect(tmp_path / "some.safetensors", "demo", "fluxsite demo")
    assert demo.reason == "This LoRA is for FLUX.1, which is larger. It cannot work on fluxsite demo."


UNET_SDXL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
UNET_SD15 = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
FOREIGN: dict[str, tuple[files.Tensors, str, str]] = {
    "SDXL, kohya": (pair(UNET_SDXL, 640, 2048, 1, *DOWN_UP), "sdxl", "an SDXL LoRA"),
    "SDXL, diffusers": (
        pair("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v", 640, 2048),
        "sdxl",
        "an SDXL LoRA",
    ),
    "SDXL, a deep block": (
        kohya("output_blocks_0_1_transformer_blocks_9_attn1_to_q", 1280, 1280),
        "sdxl",
        "an SDXL LoRA",
    ),
    "SDXL, with its second text encoder": (
        kohya("mid_block_attentions_0_proj_in", 1280, 1280)
        | pair("lora_te2_text_model_encoder_layers_0_mlp_fc1", 5120, 1280, 1, *DOWN_UP),
        "sdxl",
        "an SDXL LoRA",
    ),
    "SD 1.5, kohya": (pair(UNET_SD15, 320, 768, 1, *DOWN_UP), "sd15", "a Stable Diffusion 1.5 LoRA"),
    "SD 1.5, diffusers": (
        pair("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", 1280, 768),
        "sd15",
        "a Stable Diffusion 1.5 LoRA",
    ),
    "SD of one kind or another": (
        kohya("down_blocks_0_attentions_0_proj_in", 320, 320),
        "unknown",
        "No known model",
    ),
    "SD 3 medium": (peft("transformer_blocks.0.attn.to_q", 1536, 1536), "sd3", "a Stable Diffusion 3 LoRA"),
    "SD 3.5 large": (peft("transformer_blocks.0.attn.to_q", 2432, 2432), "sd3", "a Stable Diffusion 3 LoRA"),
    "SD 3, kohya": (kohya("joint_blocks_0_x_block_attn_qkv", 4608, 1536), "sd3", "a Stable Diffusion 3 LoRA"),
    "FLUX.2 dev": (
        pair("diffusion_model.double_blocks.0.img_attn.qkv", 18432, 6144),
        "flux2",
        "a FLUX.2 LoRA",
    ),
    "FLUX.2 Klein 9B": (peft("transformer_blocks.0.attn.to_q", 4096, 4096), "flux2", "a FLUX.2 LoRA"),
    "FLUX.2 Klein 4B": (
        pair("diffusion_model.single_blocks.0.linear1", 27648, 3072),
        "flux2",
        "a FLUX.2 LoRA",
    ),
    "FLUX.2 Klein 4B, its texts": (peft("context_embedder", 3072, 7680), "flux2", "a FLUX.2 LoRA"),
    "FLUX.2, by a name": (
        peft("single_transformer_blocks.0.attn.to_qkv_mlp_proj", 27648, 3072),
        "flux2",
        "a FLUX.2 LoRA",
    ),
    "Wan": (pair("diffusion_model.blocks.0.self_attn.q", 5120, 5120), "wan", "Wan, which makes videos"),
    "Wan, kohya": (kohya("blocks_0_cross_attn_k", 1536, 1536), "wan", "Wan, which makes videos"),
    "Qwen-Image": (peft("transformer_blocks.59.attn.to_q"), "qwen-image", "Qwen-Image"),
    "Qwen-Image, by a name": (
        peft("transformer_blocks.0.img_mlp.net.0.proj", 12288),
        "qwen-image",
        "Qwen-Image",
    ),
    "the demo model": (files.demo_lora(), "demo", "fluxsite's demo model, which is much smaller"),
    "HunyuanVideo": (
        pair("diffusion_model.double_blocks.0.img_attn_qkv", 9216, 3072),
        "unknown",
        "No known model",
    ),
    "a language model": (
        pair("base_model.model.model.layers.0.self_attn.q_proj", 4096, 4096),
        "unknown",
        "No known model",
    ),
    "garbage": (pair("garbage.0", 8, 8), "unknown", "No known model"),
    "FLUX of another size": (peft("transformer_blocks.0.attn.to_q", 64, 64), "unknown", "No known model"),
}


@pytest.mark.parametrize(("tensors", "family", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_a_lora_for_another_model_is_refused_with_its_name(
    tmp_path: Path, tensors: files.Tensors, family: str, reason: str
) -> None:
    facts = inspected(tmp_path, tensors)
    assert (facts.family, facts.admissible) == (family, False)
    assert reason in facts.reason
    assert facts.reason.endswith("It cannot work on FLUX.1-schnell.")


TO_Q = "transformer.transformer_blocks.0.attn.to_q"
GOOD = pair(TO_Q, 3072, 3072)
UNFIT: dict[str, tuple[files.Tensors, str]] = {
    "no LoRA": ({"transformer.x_embedder.weight": ("F16", (4, 4))}, "There is no LoRA in the file"),
    "only alphas": ({"a.alpha": ("F32", ())}, "There is no LoRA in the file"),
    "DoRA": (GOOD | {f"{TO_Q}.lora_magnitude_vector": ("F16", (3072,))}, "This is a DoRA; only plain LoRAs"),
    "kohya DoRA": (GOOD | {"lora_unet_x.dora_scale": ("F16", (3072, 1))}, "This is a DoRA"),
    "LoKr": ({"lora_unet_x.lokr_w1": ("F16", (4, 4))}, "This is a LoKr"),
    "LoHa": ({"lora_unet_x.hada_w1_a": ("F16", (4, 4))}, "This is a LoHa"),
    "control, by a name": (
        GOOD | {"transformer.transformer_blocks.0.attn.norm_q.weight": ("F16", (128,))},
        "a control LoRA",
    ),
    "control, by its channels": (GOOD | peft("x_embedder", 3072, 128), "This is a control LoRA"),
    "half a layer": ({f"{TO_Q}.lora_A.weight": ("F16", (1, 3072))}, f"the half B of {TO_Q} is missing"),
    "other half": ({f"{TO_Q}.lora_B.weight": ("F16", (3072, 1))}, f"the half A of {TO_Q} is missing"),
    "two ranks": (
        GOOD | {f"{TO_Q}.lora_B.weight": ("F16", (3072, 2))},
        f"the halves of {TO_Q} do not fit together",
    ),
    "vectors": (
        {f"{TO_Q}.lora_{half}.weight": ("F16", (4,)) for half in "AB"},
        f"the halves of {TO_Q} do not fit together",
    ),
    "many alphas in one": (GOOD | {f"{TO_Q}.alpha": ("F32", (2,))}, f"{TO_Q}.alpha is not one number"),
}


@pytest.mark.parametrize(("tensors", "reason"), UNFIT.values(), ids=UNFIT)
def test_what_no_engine_takes_is_refused(tmp_path: Path, tensors: files.Tensors, reason: str) -> None:
    facts = inspected(tmp_path, tensors)
    assert not facts.admissible
    assert reason in facts.reason


NOT_A_NUMBER = {
    "F64": struct.pack("<d", float("nan")),
    "F32": struct.pack("<f", float("inf")),
    "F16": struct.pack("<e", float("-inf")),
    "BF16": b"\xc0\x7f",
    "F8_E4M3": b"\xff",
    "F8_E5M2": b"\x7c",
}


@pytest.mark.parametrize("dtype", NOT_A_NUMBER)
def test_numbers_that_are_none_are_refused(tmp_path: Path, dtype: str) -> None:
    tensors = {name: (dtype, shape) for name, (_, shape) in files.demo_lora().items()}
    whole, bad = bytearray(files.safetensors(tensors)), NOT_A_NUMBER[dtype]
    whole[-len(bad) :] = bad
    facts = inspect(files.written(tmp_path, bytes(whole)), "demo", "fluxsite demo")
    assert facts.reason.startswith(
        "The weights of transformer.transformer_blocks.1.attn.to_v.lora_B.weight are"
    )
    assert not facts.admissible


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
)
def test_the_greatest_and_least_numbers_are_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    wide = torch.tensor([limits.max, limits.min, limits.tiny, -0.0], dtype=torch.float64)
    half = wide.to(dtype).repeat(48)
    name = "transformer.transformer_blocks.0.attn.to_q"
    tensors = {
        f"{name}.lora_A.weight": half.reshape(1, 192),
        f"{name}.lora_B.weight": half.reshape(192, 1).clone(),
    }
    path = files.written(tmp_path, save(tensors))
    assert inspect(path, "demo", "fluxsite demo").reason == ""


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_alpha_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    tensors = {**files.demo_lora(), "transformer.transformer_blocks.0.attn.to_q.alpha": ("F32", ())}
    whole = files.safetensors(tensors)
    path = files.written(tmp_path, whole[:-4] + struct.pack("<f", value))
    facts = inspect(path, "demo", "fluxsite demo")
    assert facts.reason == (
        "The file is damaged: transformer.transformer_blocks.0.attn.to_q.alpha is not a finite number."
    )


def test_a_demo_lora_has_these_facts() -> None:
    path = DEMO_LORAS / "outline.safetensors"
    facts = inspect(path, "demo", "fluxsite demo")
    content = path.read_bytes()
    assert facts.admissible
    assert (facts.family, facts.layout, facts.kind, facts.title) == ("demo", "diffusers", "lora", "Outline")
    assert (facts.rank, facts.alpha) == (Range(8, 8, 8), None)
    assert facts.trigger_words == ["outlined"]
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    assert facts.auto_v2 == facts.sha256[:10]
    length = 8 + int.from_bytes(content[:8], "little")
    assert facts.auto_v3 == hashlib.sha256(content[length:]).hexdigest()
    assert (facts.size, facts.tensors) == (len(content), 82)
    assert sum(facts.modules.values()) == 41


def test_what_the_metadata_say_is_cleaned(tmp_path: Path) -> None:
    said = {
        "ss_base_model_version": "flux1",
        "modelspec.trigger_phrase": "a fox , foggy\0 wood,, " + "x" * 500,
        "ss_tag_frequency": '{"1_a": {"fox": 10, "red\\u0000fur": 3}, "2_b": {"fox": 5, "bad": "x"}}',
        "ss_steps": "1000",
        "ss_epoch": "None",
        "modelspec.title": "<script>alert(1)</script>\n",
    }
    facts = inspected(tmp_path, GOOD, **said)
    assert facts.base_model == "flux1"
    assert facts.trigger_words[:2] == ["a fox", "foggy wood"]
    assert max(map(len, facts.trigger_words)) <= 200
    assert facts.tags == {"fox": 15, "red fur": 3}
    assert facts.training == {"ss_steps": "1000"}
    assert facts.title == "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "tags", ["{", "[1]", '{"a": 1}', '{"a": {"b": 1e99}}', "[" * 90_000, '{"a":' + "9" * 9999 + "}"]
)
def test_damaged_tags_are_no_reason(tmp_path: Path, tags: str) -> None:
    facts = inspected(tmp_path, GOOD, ss_tag_frequency=tags)
    assert (facts.tags, facts.reason) == ({}, "")


def test_ranks_and_alphas_that_differ(tmp_path: Path) -> None:
    tensors = kohya("double_blocks_0_img_attn_qkv", 9216, 3072, 4)
    tensors |= kohya("double_blocks_1_img_attn_qkv", 9216, 3072, 4) | kohya(
        "single_blocks_0_linear2", 3072, 15360, 2
    )
    facts = inspected(tmp_path, tensors)
    assert (facts.rank, facts.alpha) == (Range(4, 2, 4), Range(0, 0, 0))
    assert facts.modules == {"double": 2, "single": 1}


def check(folder: Path, content: bytes) -> Inspection:
    """Whatever it is: an answer, and a reason that can be stored and shown."""
    facts = inspect(files.written(folder, content), "demo", "fluxsite demo")
    assert facts.admissible == (facts.reason == "")
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    texts = [facts.reason, facts.title, *facts.trigger_words, *facts.tags, *facts.training.values()]
    assert all(text.isprintable() for text in texts)
    return facts


SMALL = files.safetensors(files.demo_lora(rank=1, blocks=1), {"modelspec.title": "Fog", "ss_steps": "1"})


@settings(max_examples=300, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(files.packed)))
def test_any_bytes_are_answered(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    assert not check(tmp_path_factory.getbasetemp(), content).admissible


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["a", "a.lora_A.weight", "a.alpha", "__metadata__"]),
    entry=VALUES,
    size=st.integers(0, 9),
)
def test_any_header_is_answered(
    tmp_path_factory: pytest.TempPathFactory, name: str, entry: Any, size: int
) -> None:
    assert not check(tmp_path_factory.getbasetemp(), files.packed({name: entry}, bytes(size))).admissible


def test_flipped_bits_in_the_header_never_make_another_error(tmp_path: Path) -> None:
    chance, length = random.Random(1), int.from_bytes(SMALL[:8], "little")
    refused = 0
    for _ in range(600):
        flipped = bytearray(SMALL)
        for _ in range(chance.randint(1, 3)):
            flipped[chance.randrange(8 + length)] ^= 1 << chance.randrange(8)
        refused += not check(tmp_path, bytes(flipped)).admissible
    assert check(tmp_path, SMALL).admissible
    assert refused > 400  # the others changed a letter of the metadata, or a layer to one that is there


def test_every_beginning_of_a_file_is_refused(tmp_path: Path) -> None:
    for end in range(0, len(SMALL), 23):
        assert not check(tmp_path, SMALL[:end]).admissible
