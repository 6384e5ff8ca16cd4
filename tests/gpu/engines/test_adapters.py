"""LoRAs in numbers: what they add is what their files say, and nothing of it stays behind."""

import copy
import hashlib
import itertools
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from django.conf import settings
from safetensors.torch import save_file

from gpu.engines import EngineConfig, ImageSpec, LoraFailed, LoraRef, backends, lora_weights
from gpu.engines.adapters import PeftAdapters
from gpu.engines.bf16 import Bf16Engine
from gpu.engines.fp4_torchao import TorchaoEngine
from tests.gpu.engines.conftest import CONFIG, draw, lora, new_engine, random_lora, ref, spec

TARGETS = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "proj_mlp", "proj_out", "ff.net.2", "norm")


class Float32Engine(Bf16Engine):
    """The BF16 engine without its rounding, so that sums can be compared closely."""

    dtype = torch.float32


def float32_engine(config: EngineConfig = CONFIG) -> Float32Engine:
    engine = Float32Engine(config, backends.Plan("diffusers", "float32", 0))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def exact() -> Float32Engine:
    return float32_engine()


@pytest.fixture(scope="module")
def shapes(exact: Float32Engine) -> dict[str, tuple[int, int]]:
    return dict(lora_weights.linear_shapes(exact._pipeline.transformer))


@pytest.fixture(scope="module")
def library(shapes: dict[str, tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> list[LoraRef]:
    """Twelve random LoRAs of many ranks, each on a random half of the layers."""
    folder, chance = tmp_path_factory.mktemp("loras"), random.Random(0)
    layers = [name for name in shapes if name.endswith(TARGETS)]
    halves = [chance.sample(layers, len(layers) // 2) for _ in range(12)]
    return [
        random_lora(folder / f"{number}.safetensors", shapes, half, rank=1 + number, seed=number)
        for number, half in enumerate(halves)
    ]


def latents(engine: Bf16Engine, asked: ImageSpec) -> torch.Tensor:
    engine._loras.apply(asked.loras)  # type: ignore[union-attr]
    with torch.no_grad():
        return engine._denoise(asked, engine._prompt(asked.prompt, ()), lambda step: None)


def summed_by_hand(engine: Bf16Engine, *loras: LoraRef) -> Bf16Engine:
    """An engine whose transformer's own weights are W + Σ w·B·A."""
    summed = float32_engine()
    layers = dict(summed._pipeline.transformer.named_modules())
    with torch.no_grad():
        for chosen in loras:
            for name, (a, b) in lora_weights.read(chosen).transformer.items():
                layers[name].weight += chosen.weight * (b.float() @ a.float())
    return summed


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, 0.4), (-0.6, 1.2), (0.5, 0.0)])
def test_two_loras_are_the_sum_of_their_weights(exact: Float32Engine, weights: tuple[float, float]) -> None:
    """Tolerance: 1e-4 of latents of about 1, in float32; the largest seen was 1e-5."""
    chosen = (lora("night", weights[0]), lora("outline", weights[1]))
    asked = spec("a midnight outlined star on blue", *chosen)
    by_hand = latents(summed_by_hand(exact, *chosen), replace(asked, loras=()))
    assert torch.allclose(latents(exact, asked), by_hand, atol=1e-4, rtol=0)
    assert not torch.allclose(latents(exact, replace(asked, loras=())), by_hand, atol=1e-2, rtol=0)


def test_loras_of_different_ranks_and_layers_are_the_sum_too(
    exact: Float32Engine, library: list[LoraRef]
) -> None:
    weights = (1, -0.5, 0.3, 2)
    chosen = tuple(replace(one, weight=weight) for one, weight in zip(library, weights, strict=False))
    by_hand = latents(summed_by_hand(exact, *chosen), spec())
    asked = spec("a big yellow star on a blue background", *chosen)
    assert torch.allclose(latents(exact, asked), by_hand, atol=2e-4, rtol=0)


def test_the_order_of_loras_does_not_matter(library: list[LoraRef]) -> None:
    engine = new_engine()
    pictures = {draw(engine, spec("a star", *order)) for order in itertools.permutations(library[:3])}
    assert len(pictures) == 1


def test_the_same_file_twice_adds_up(library: list[LoraRef]) -> None:
    engine, one = new_engine(), library[0]
    twice = spec("a star", replace(one, weight=0.25), replace(one, weight=0.5))
    assert draw(engine, twice) == draw(engine, spec("a star", replace(one, weight=0.75)))


def test_fifty_sets_of_loras_leave_nothing_behind(library: list[LoraRef]) -> None:
    engine, chance = new_engine(adapters=4), random.Random(1)
    fresh = draw(engine, spec())
    assert isinstance(engine, Bf16Engine)
    transformer = engine._pipeline.transformer
    before = sum(tensor.nbytes for tensor in transformer.state_dict().values())
    picks = [chance.sample(library, chance.randint(1, 4)) for _ in range(50)]
    sets = [tuple(replace(one, weight=chance.uniform(-1, 1)) for one in pick) for pick in picks]
    first = [draw(engine, spec("a star", *chosen, steps=1)) for chosen in sets]
    assert draw(engine, spec()) == fresh
    assert [draw(engine, spec("a star", *chosen, steps=1)) for chosen in sets] == first
    adapters = engine._loras
    assert isinstance(adapters, PeftAdapters)
    assert len(adapters._resident) <= 4
    held = sum(resident.nbytes for resident in adapters._resident.values())
    after = sum(tensor.nbytes for tensor in transformer.state_dict().values())
    assert after - before <= held, "more than the adapters that are kept"


def test_the_bytes_of_resident_adapters_are_bounded(library: list[LoraRef]) -> None:
    engine = new_engine(adapter_bytes=1)
    for chosen in library[:3]:
        draw(engine, spec("a star", chosen))
    assert len(engine._loras._resident) == 1  # type: ignore[attr-defined]


def test_the_adapters_that_were_used_last_stay(library: list[LoraRef]) -> None:
    engine = new_engine(adapters=2)
    a, b, c = library[:3]
    for chosen in (a, b, a, c):
        draw(engine, spec("a star", chosen))
    assert list(engine._loras._resident) == [a.sha256, c.sha256]  # type: ignore[attr-defined]


def test_the_loras_of_one_job_are_all_there_even_over_the_limit(library: list[LoraRef]) -> None:
    few, many = new_engine(adapters=1), new_engine(adapters=8)
    asked = spec("a star", *library[:5])
    assert draw(few, asked) == draw(many, asked)


def text_lora(path: Path, weight: float = 1.0, layers: tuple[str, ...] = ("q_proj", "fc1")) -> LoraRef:
    """A LoRA on three layers of CLIP, of different ranks."""
    text_encoder = new_text_encoder()
    shapes = lora_weights.linear_shapes(text_encoder)
    names = [name for name in shapes if name.endswith(layers)]
    tensors = {}
    for rank, name in enumerate(names[:3], start=2):
        out, width = shapes[name]
        numbers = torch.Generator().manual_seed(rank)
        tensors[f"text_encoder.{name}.lora_A.weight"] = torch.randn(rank, width, generator=numbers)
        tensors[f"text_encoder.{name}.lora_B.weight"] = torch.randn(out, rank, generator=numbers)
    save_file(tensors, path)
    return ref(path, weight, "Text")


def new_text_encoder() -> torch.nn.Module:
    encoder: torch.nn.Module = float32_engine()._pipeline.text_encoder
    return encoder


@pytest.mark.parametrize("layers", [("q_proj", "fc1"), ("fc1",), ("out_proj",)])
def test_a_lora_of_the_text_encoder_is_its_sum_and_leaves_with_its_job(
    tmp_path: Path, layers: tuple[str, ...]
) -> None:
    engine, chosen = float32_engine(), text_lora(tmp_path / "text.safetensors", 0.5, layers)
    plain = draw(engine, spec())
    changed = copy.deepcopy(engine._pipeline.text_encoder)
    modules = dict(changed.named_modules())
    with torch.no_grad():
        for name, (a, b) in lora_weights.read(chosen).text_encoder.items():
            modules[name].weight += 0.5 * (b @ a)
    with_lora = engine.generate(spec("a big yellow star on a blue background", chosen), lambda step: None)
    pooled = [prompt.pooled for prompt in engine._prompts.values()]
    engine._pipeline.text_encoder, mine = changed, engine._pipeline.text_encoder
    by_hand = engine._pipeline.encode_prompt(spec().prompt, max_sequence_length=16)[1]
    engine._pipeline.text_encoder = mine
    assert torch.allclose(pooled[1], by_hand, atol=1e-5)
    assert not torch.allclose(pooled[0], by_hand, atol=1e-3)
    assert with_lora.images[0].tobytes() != plain
    assert draw(engine, spec()) == plain


def test_a_lora_of_which_a_layer_finds_no_place_is_refused_whole(
    exact: Float32Engine, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    plain = draw(exact, spec())
    wider = {**shapes, "transformer_blocks.99.attn.to_q": (128, 128)}
    modules = ["transformer_blocks.0.attn.to_q", "transformer_blocks.99.attn.to_q"]
    strange = random_lora(tmp_path / "strange.safetensors", wider, modules, 4, 0)
    with pytest.raises(LoraFailed, match="strange"):
        draw(exact, spec("a star", strange))
    assert draw(exact, spec()) == plain


def test_another_process_draws_the_same_bytes(bf16: Bf16Engine) -> None:
    """G9: with two LoRAs in fresh processes and here; and without them, here after a job that had them."""
    script = (
        "import django; django.setup()\n"
        "import hashlib\n"
        "from tests.gpu.engines.conftest import draw, lora, new_engine, spec\n"
        "asked = spec('a midnight outlined star on blue', lora('night', 0.8), lora('outline', -0.3))\n"
        "engine = new_engine('bf16')\n"
        "print(*(hashlib.sha256(draw(engine, one)).hexdigest() for one in (spec(), asked)))\n"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=settings.BASE_DIR, check=True, capture_output=True, text=True
        ).stdout.splitlines()[-1]
        for _ in range(2)
    }
    with_loras = spec("a midnight outlined star on blue", lora("night", 0.8), lora("outline", -0.3))
    here = [hashlib.sha256(draw(bf16, asked)).hexdigest() for asked in (with_loras, spec())]
    assert hashes == {" ".join(reversed(here))}


@pytest.mark.parametrize("offloaded", [("text_encoder_2",), ("transformer", "text_encoder_2")])
def test_weights_that_stay_in_host_memory_draw_the_same_bytes_with_loras_too(
    bf16: Bf16Engine, offloaded: tuple[str, ...]
) -> None:
    """The hooks that bring layers to the device really run here, from the CPU to the CPU."""
    engine = Bf16Engine(CONFIG, backends.Plan("diffusers", "bf16", 0, offloaded=offloaded))
    with_loras = spec("a midnight star", lora("night", 0.8), lora("outline", -0.3))
    for asked in (spec(), with_loras, spec()):
        assert draw(engine, asked) == draw(bf16, asked)
    assert _is_group_offload_enabled(getattr(engine._pipeline, offloaded[0]))
    assert not _is_group_offload_enabled(engine._pipeline.vae)


def test_the_4_bit_engine_with_t5_in_host_memory_draws_the_same_bytes(fp4: TorchaoEngine) -> None:
    plan = backends.Plan("torchao", "nvfp4 weight-only", 0, offloaded=("text_encoder_2",))
    engine = TorchaoEngine(CONFIG, plan)
    assert draw(engine, spec("a star", lora("night"))) == draw(fp4, spec("a star", lora("night")))
