"""The 4-bit engine for where nunchaku does not run, on the demo model: small, near BF16, no traces."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor

from bench.four_bit import stored_bytes
from gpu.engines import InvalidOutput
from gpu.engines.backends import Plan
from gpu.engines.bf16 import Bf16Engine
from gpu.engines.flux import FluxEngine
from gpu.engines.fp4_torchao import Nvfp4Linear, TorchaoEngine, dequantised, quantise
from tests.gpu.engines.conftest import CONFIG, LORAS, draw, lora, ref, spec

CPU = torch.device("cpu")
PROMPT = "midnight, outlined, a big yellow star on a blue background"


def new_torchao(offloaded: tuple[str, ...] = ()) -> TorchaoEngine:
    engine = TorchaoEngine(CONFIG, Plan("torchao", "nvfp4 weight-only", 0, offloaded))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def torchao() -> Iterator[TorchaoEngine]:
    engine = new_torchao()
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def plain_bf16() -> Iterator[Bf16Engine]:
    engine = Bf16Engine(CONFIG, Plan("diffusers", "bf16", 0))
    engine.load()
    yield engine
    engine.unload()


def pixels(engine: FluxEngine, seed: int) -> np.ndarray:
    """128 × 128, 0..1."""
    drawn = engine.generate(spec(width=128, height=128, seed=seed), lambda step: None)
    return np.asarray(drawn.images[0], float) / 255


def test_the_transformer_takes_two_fifths_of_bf16_at_most(
    torchao: TorchaoEngine, plain_bf16: Bf16Engine
) -> None:
    whole = stored_bytes(plain_bf16._pipeline.transformer)
    assert stored_bytes(torchao._pipeline.transformer) <= 0.40 * whole


def test_pictures_are_near_those_of_bf16_and_not_the_same(
    torchao: TorchaoEngine, plain_bf16: Bf16Engine
) -> None:
    # Measured: 0.0060 on average and 0.0064 at most; another seed is 0.0229 away.
    distances = [np.abs(pixels(torchao, seed) - pixels(plain_bf16, seed)).mean() for seed in range(8)]
    assert min(distances) > 0
    assert np.mean(distances) < 0.012


def test_the_recipe_names_torchao_and_the_precision(torchao: TorchaoEngine) -> None:
    assert "torchao 0." in torchao.backend
    assert torchao.backend.endswith("nvfp4 weight-only")


def test_two_loras_with_weights_change_the_picture_and_leave_no_trace(torchao: TorchaoEngine) -> None:
    before = draw(torchao, spec(PROMPT))
    pictures = {
        draw(torchao, spec(PROMPT, *loras))
        for loras in (
            (lora("night"),),
            (lora("outline"),),
            (lora("night"), lora("outline", 0.6)),
            (lora("night", 0.6), lora("outline")),
        )
    }
    assert len(pictures | {before}) == 5
    assert draw(torchao, spec(PROMPT)) == before


def test_a_weight_of_zero_is_no_lora(torchao: TorchaoEngine) -> None:
    assert draw(torchao, spec(PROMPT, lora("night", 0.0))) == draw(torchao, spec(PROMPT))


def test_numbers_that_are_none_make_no_picture(torchao: TorchaoEngine, tmp_path: Path) -> None:
    """Every weight of the LoRA is a number, and what comes of them is none."""
    before = draw(torchao, spec())
    tensors = load_file(LORAS / "night.safetensors")
    huge = tmp_path / "huge.safetensors"
    save_file({name: torch.full_like(tensor, 1e30) for name, tensor in tensors.items()}, huge)
    with pytest.raises(InvalidOutput):
        draw(torchao, spec("a star", ref(huge, 1.0)))
    assert draw(torchao, spec()) == before


def test_a_new_engine_draws_the_same_bytes_and_unloading_frees_the_model(torchao: TorchaoEngine) -> None:
    engine = new_torchao()
    assert draw(engine, spec(PROMPT, lora("night"))) == draw(torchao, spec(PROMPT, lora("night")))
    transformer = weakref.ref(engine._pipeline.transformer)
    engine.unload()
    assert transformer() is None
    assert not engine.loaded


def test_an_offloaded_transformer_draws_the_same_bytes(torchao: TorchaoEngine) -> None:
    """From the CPU to the CPU: the hooks and the swapping of tensors are real, the moving is not."""
    asked = spec(PROMPT, lora("night"))
    assert draw(new_torchao(("transformer",)), asked) == draw(torchao, asked)


def test_weights_are_decoded_as_torchao_does() -> None:
    """All 256 bytes with every scale there is: 126 positive E4M3 numbers, and zero."""
    codes = torch.arange(256, dtype=torch.uint8).repeat(127, 1)
    scales = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn)
    for overall in (1e-7, 0.000123, 1.0):
        scale = scales.unsqueeze(1).repeat(1, 32)
        weight = NVFP4Tensor(codes, scale, 16, torch.bfloat16, torch.tensor(overall))
        assert torch.equal(dequantised(weight), weight.dequantize())


def test_only_the_blocks_are_quantised(torchao: TorchaoEngine, plain_bf16: Bf16Engine) -> None:
    layers = dict(torchao._pipeline.transformer.named_modules())
    for name, layer in plain_bf16._pipeline.transformer.named_modules():
        if isinstance(layer, nn.Linear):
            in_blocks = "transformer_blocks." in name
            assert isinstance(layers.get(f"{name}.base_layer", layers[name]), Nvfp4Linear) is in_blocks


def test_a_matrix_of_zeros_stays_one() -> None:
    layer = nn.Linear(32, 16, dtype=torch.bfloat16)
    nn.init.zeros_(layer.weight)
    assert not dequantised(Nvfp4Linear.of(layer, CPU).weight).any()


def test_a_width_that_blocks_of_16_do_not_divide_stays_as_it_is() -> None:
    model = nn.Module()
    model.transformer_blocks = nn.ModuleList([nn.Linear(20, 16, dtype=torch.bfloat16)])
    quantise(model, CPU)
    assert type(model.transformer_blocks[0]) is nn.Linear


def test_a_layer_moves_as_a_whole() -> None:
    layer = Nvfp4Linear.of(nn.Linear(32, 16, dtype=torch.bfloat16), CPU).to("meta")
    weight = layer.weight
    assert isinstance(weight, NVFP4Tensor)
    assert {part.device.type for part in (weight.qdata, weight.scale, weight.per_tensor_scale)} == {"meta"}
