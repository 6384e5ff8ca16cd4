"""LoRAs of a nunchaku transformer in numbers, on a double that has upstream's defects."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpu.engines import EngineConfig, LoraFailed, LoraRef, composed_loras, lora_weights
from gpu.engines.adapters import Active, active
from gpu.engines.composed_loras import ComposedLoras, linear_shapes
from tests.gpu.engines import nunchaku_double as double
from tests.gpu.engines.conftest import CONFIG, lora, ref
from tests.gpu.engines.nunchaku_double import (
    Aborted,
    NunchakuFluxTransformer2dModel,
    QuantizedFluxModel,
    Tensors,
)

CONVERTER = "nunchaku.lora.flux.nunchaku_converter"
LAYERS = (
    "transformer_blocks.1.attn.to_q",
    "transformer_blocks.1.attn.to_k",
    "transformer_blocks.1.attn.add_v_proj",
    "transformer_blocks.1.attn.to_out.0",
    "transformer_blocks.1.attn.to_add_out",
    "transformer_blocks.1.ff.net.0.proj",
    "transformer_blocks.1.ff.net.2",
    "transformer_blocks.1.ff_context.net.0.proj",
    "transformer_blocks.1.ff_context.net.2",
    "transformer_blocks.1.norm1.linear",
    "transformer_blocks.1.norm1_context.linear",
    "single_transformer_blocks.3.attn.to_v",
    "single_transformer_blocks.3.proj_mlp",
    "single_transformer_blocks.3.proj_out",
    "single_transformer_blocks.3.norm.linear",
    "x_embedder",
    "context_embedder",
    "time_text_embed.timestep_embedder.linear_1",
    "time_text_embed.text_embedder.linear_2",
    "norm_out.linear",
    "proj_out",
)


class TextLoras:
    """What applies CLIP's part: it remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Active] = []
        self.error: Exception | None = None

    def apply(self, loras: Sequence[LoraRef]) -> Active:
        self.asked.append(active(loras))
        if self.error and loras:
            raise self.error
        return active(loras)

    def kept(self) -> tuple[int, frozenset[str]]:
        return 0, frozenset()


@pytest.fixture
def transformer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> NunchakuFluxTransformer2dModel:
    double.install(monkeypatch, tmp_path)
    double.write_transformer(tmp_path / "svdq.safetensors")
    return NunchakuFluxTransformer2dModel.from_pretrained(
        tmp_path / "svdq.safetensors", torch_dtype=torch.bfloat16
    )


@pytest.fixture
def shapes(transformer: NunchakuFluxTransformer2dModel) -> dict[str, tuple[int, int]]:
    return linear_shapes(transformer)


def composed(transformer: NunchakuFluxTransformer2dModel, config: EngineConfig = CONFIG) -> ComposedLoras:
    return ComposedLoras(transformer, linear_shapes(transformer), config, TextLoras())


def eighths(path: Path, shapes: dict[str, tuple[int, int]], layers: Iterable[str], rank: int = 4) -> LoraRef:
    """A LoRA of multiples of 1/8, which bfloat16 holds exactly, and so are their products in float32."""
    random = torch.Generator().manual_seed(rank)
    tensors = {}
    for layer in layers:
        out, width = shapes[layer]
        for letter, size in (("A", (rank, width)), ("B", (out, rank))):
            tensors[f"transformer.{layer}.lora_{letter}.weight"] = (
                torch.randint(-8, 9, size, generator=random) / 8
            )
    save_file(tensors, path)
    return ref(path, 1.0, path.stem)


def assert_sum(transformer: NunchakuFluxTransformer2dModel, *loras: LoraRef) -> None:
    """That every layer has its LoRAs' Σ w·B·A more than its own weight, and no layer anything else."""
    wanted: Tensors = {}
    for chosen in loras:
        for layer, (a, b) in lora_weights.read(chosen).transformer.items():
            wanted[layer] = wanted.get(layer, torch.zeros(())) + chosen.weight * (b.float() @ a.float())
    for layer in linear_shapes(transformer):
        more, own = wanted.get(layer, torch.zeros(())), weight_before(transformer, layer)
        if layer in transformer.m.weights:
            assert torch.allclose(transformer.m.added(layer), more, atol=1e-5), layer
        else:
            weight = transformer.get_submodule(layer).weight
            assert torch.allclose(weight.float(), (own.float() + more).bfloat16().float(), atol=1e-2), layer
        assert layer in wanted or torch.equal(weight_now(transformer, layer), own), layer


def weight_before(transformer: NunchakuFluxTransformer2dModel, layer: str) -> torch.Tensor:
    if layer in transformer.m.weights:
        return transformer.m.weights[layer]
    weights: Tensors = transformer._unquantized_part_sd
    return weights[f"{layer}.weight"]


def weight_now(transformer: NunchakuFluxTransformer2dModel, layer: str) -> torch.Tensor:
    inside = transformer.m._layers()
    if layer in inside:
        return inside[layer].weight
    found: torch.Tensor = transformer.get_submodule(layer).weight
    return found


def assert_untouched(transformer: NunchakuFluxTransformer2dModel) -> None:
    assert_sum(transformer)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 0.25), (-0.75, 1.5), (0.5, 0.0), (0.0, -2.0)])
def test_two_loras_are_the_sum_of_their_weights(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    weights: tuple[float, float],
) -> None:
    one = eighths(tmp_path / "one.safetensors", shapes, list(shapes)[::2], rank=3)
    two = eighths(tmp_path / "two.safetensors", shapes, list(shapes)[::3], rank=17)
    chosen = [replace(one, weight=weights[0]), replace(two, weight=weights[1])]
    composed(transformer).apply(chosen)
    assert_sum(transformer, *chosen)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("weight", [1.0, 0.5, -1.0])
def test_a_lora_of_one_layer_arrives_whole_at_any_weight(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    layer: str,
    weight: float,
) -> None:
    """Where nunchaku computes layers together, the others get zeros."""
    chosen = replace(eighths(tmp_path / "one.safetensors", shapes, [layer]), weight=weight)
    composed(transformer).apply([chosen])
    assert_sum(transformer, chosen)


def test_the_demo_loras_are_their_sum(transformer: NunchakuFluxTransformer2dModel) -> None:
    """Real numbers, rounded to bfloat16 once: within 1 % of the largest number of their layer."""
    chosen = [lora("night", 0.7), lora("outline", -0.4)]
    composed(transformer).apply(chosen)
    read = [lora_weights.read(one).transformer for one in chosen]
    for layer in read[0].keys() & transformer.m.weights.keys():
        products = [(pairs[layer][1].float() @ pairs[layer][0].float()) for pairs in read]
        wanted = 0.7 * products[0] - 0.4 * products[1]
        assert torch.allclose(transformer.m.added(layer), wanted, atol=0.01 * float(wanted.abs().max())), (
            layer
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_type_of_the_file_does_not_matter(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    dtype: torch.dtype,
) -> None:
    path = tmp_path / "one.safetensors"
    eighths(path, shapes, LAYERS)
    save_file({key: tensor.to(dtype) for key, tensor in load_file(path).items()}, path)
    composed(transformer).apply([ref(path, 0.5)])
    assert_sum(transformer, ref(path, 0.5))


def test_ranks_that_differ_inside_a_file_arrive_whole(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    tensors: Tensors = {}
    for rank, layer in enumerate(LAYERS, start=1):
        eighths(tmp_path / "one.safetensors", shapes, [layer], rank=rank)
        tensors |= load_file(tmp_path / "one.safetensors")
    save_file(tensors, tmp_path / "all.safetensors")
    chosen = ref(tmp_path / "all.safetensors", 1.0)
    composed(transformer).apply([chosen])
    assert_sum(transformer, chosen)


def test_q_k_and_v_of_nearly_the_same_a_stay_apart(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    """compose_lora calls numbers alike that differ by less than 1e-8: as a tiny A with a large B does."""
    qkv = [f"transformer_blocks.0.attn.to_{letter}" for letter in "qkv"]
    path = tmp_path / "tiny.safetensors"
    eighths(path, shapes, qkv)
    tensors = {key: t * (2.0**-30 if "lora_A" in key else 2.0**30) for key, t in load_file(path).items()}
    assert len(double._with_fused(tensors)["transformer.transformer_blocks.0.attn.to_qkv.lora_A.weight"]) == 4
    save_file(tensors, path)
    composed(transformer).apply([ref(path, 1.0)])
    assert_sum(transformer, ref(path, 1.0))


def test_q_k_and_v_of_one_a_take_its_rank_once(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    qkv = [f"single_transformer_blocks.0.attn.to_{letter}" for letter in "qkv"]
    path = tmp_path / "shared.safetensors"
    eighths(path, shapes, qkv, rank=16)
    tensors = load_file(path)
    a = tensors[f"transformer.{qkv[0]}.lora_A.weight"]
    save_file({key: a.clone() if "lora_A" in key else tensor for key, tensor in tensors.items()}, path)
    composed(transformer).apply([ref(path, 1.0)])
    assert_sum(transformer, ref(path, 1.0))
    branch = transformer.m.branches["single_transformer_blocks.0.qkv_proj.lora_up"]
    assert branch.shape[1] == double.BASE_RANK + 16


def test_the_order_of_loras_does_not_matter(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    pair = [eighths(tmp_path / f"{rank}.safetensors", shapes, shapes, rank) for rank in (2, 3)]
    composed(transformer).apply(pair)
    first = {name: tensor.clone() for name, tensor in transformer.m.branches.items()}
    transformer.reset_lora()
    composed(transformer).apply(pair[::-1])
    assert first.keys() == transformer.m.branches.keys()
    assert all(torch.equal(first[name], tensor) for name, tensor in transformer.m.branches.items())


def test_without_loras_every_bit_is_back(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    loras = composed(transformer)
    chosen = eighths(tmp_path / "one.safetensors", shapes, shapes)
    for off in ([], [replace(chosen, weight=0.0)]):
        loras.apply([chosen])
        assert_sum(transformer, chosen)
        loras.apply(off)
        assert_untouched(transformer)


def test_the_norms_of_the_lora_before_do_not_stay(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    norms = eighths(
        tmp_path / "norms.safetensors", shapes, ["transformer_blocks.0.norm1.linear", "x_embedder"]
    )
    other = eighths(tmp_path / "other.safetensors", shapes, ["transformer_blocks.0.attn.to_q"])
    loras = composed(transformer)
    loras.apply([norms])
    loras.apply([other])
    assert_sum(transformer, other)


def test_the_same_loras_again_are_left_alone(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = eighths(tmp_path / "one.safetensors", shapes, LAYERS)
    loras = composed(transformer)
    loras.apply([chosen])
    monkeypatch.delattr(QuantizedFluxModel, "loadDict")
    assert loras.apply([chosen]) == active([chosen])
    assert loras.apply([replace(chosen, weight=0.5), replace(chosen, weight=0.5)])


def test_a_new_transformer_is_not_reset_for_nothing(
    transformer: NunchakuFluxTransformer2dModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(QuantizedFluxModel, "loadDict")
    assert composed(transformer).apply([]) == ()


# What is for the text encoder -----------------------------------------------------------------------------


def with_text(path: Path) -> LoraRef:
    tensors = load_file(path) if path.exists() else {}
    tensors["text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight"] = torch.ones(2, 64)
    tensors["text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight"] = torch.ones(256, 2)
    save_file(tensors, path)
    return ref(path, 0.5)


def test_the_text_encoders_part_goes_where_it_belongs(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    eighths(tmp_path / "both.safetensors", shapes, LAYERS)
    chosen, text = with_text(tmp_path / "both.safetensors"), TextLoras()
    assert ComposedLoras(transformer, shapes, CONFIG, text).apply([chosen]) == ((chosen.sha256, 0.5),)
    assert text.asked == [active([chosen])]
    assert_sum(transformer, chosen)


def test_a_lora_of_the_text_encoder_alone_leaves_the_transformer(
    transformer: NunchakuFluxTransformer2dModel, tmp_path: Path
) -> None:
    composed(transformer).apply([with_text(tmp_path / "text.safetensors")])
    assert_untouched(transformer)


# Failures -------------------------------------------------------------------------------------------------


def test_a_layer_that_the_model_has_not_is_refused(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    more = {**shapes, "transformer_blocks.9.attn.to_q": (192, 192)}
    chosen = eighths(tmp_path / "strange.safetensors", more, ["transformer_blocks.9.attn.to_q"])
    with pytest.raises(LoraFailed, match=r"strange.*transformer_blocks\.9"):
        composed(transformer).apply([chosen])
    assert_untouched(transformer)


def test_a_layer_of_another_size_is_refused(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    narrow = {**shapes, "transformer_blocks.0.attn.to_out.0": (192, 96)}
    chosen = eighths(tmp_path / "narrow.safetensors", narrow, ["transformer_blocks.0.attn.to_out.0"])
    with pytest.raises(LoraFailed, match="another size"):
        composed(transformer).apply([chosen])


def test_what_nunchaku_would_leave_out_without_a_word_is_an_error(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forgetful(input_lora: Tensors, base_sd: Tensors) -> Tensors:
        return {key: tensor for key, tensor in base_sd.items() if "lora" in key}

    chosen = eighths(tmp_path / "one.safetensors", shapes, ["transformer_blocks.1.ff.net.2"])
    monkeypatch.setattr(sys.modules[CONVERTER], "to_nunchaku", forgetful)
    with pytest.raises(LoraFailed, match=r"left out.*transformer_blocks\.1\.mlp_fc2"):
        composed(transformer).apply([chosen])


def test_a_layer_that_nunchaku_has_not_is_an_error(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(composed_loras._IN_NUNCHAKU["transformer_blocks"], "attn.to_out.0")
    chosen = eighths(tmp_path / "one.safetensors", shapes, ["transformer_blocks.1.attn.to_out.0"])
    with pytest.raises(LoraFailed, match=r"cannot change transformer_blocks\.1\.attn\.to_out\.0"):
        composed(transformer).apply([chosen])


def test_ranks_that_the_kernel_cannot_count_are_refused(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    layer, room = "transformer_blocks.0.attn.to_out.0", double.MAX_RANK - double.BASE_RANK
    fits = eighths(tmp_path / "fits.safetensors", shapes, [layer], rank=room)
    one_more = eighths(tmp_path / "more.safetensors", shapes, [layer], rank=1)
    loras = composed(transformer)
    loras.apply([fits])
    assert_sum(transformer, fits)
    with pytest.raises(LoraFailed, match=f"rank {room + 1}.*room for {room}"):
        loras.apply([fits, one_more])
    norms = eighths(
        tmp_path / "norms.safetensors", shapes, ["transformer_blocks.0.norm1.linear"], rank=room + 1
    )
    loras.apply([norms])
    assert_sum(transformer, norms)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("CUDA error: out of memory (at src/Tensor.h:95)"), RuntimeError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError),
        (RuntimeError("Sizes of tensors must match"), LoraFailed),
        (KeyError("x_embedder.weight"), LoraFailed),
        (AssertionError(), LoraFailed),
    ],
)
def test_after_an_error_half_way_nothing_is_on_and_the_next_job_is_clean(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    raised: type[Exception],
) -> None:
    """The device's own errors stay what they are: the engine knows what they mean."""
    chosen = eighths(tmp_path / "one.safetensors", shapes, LAYERS)
    update = transformer.update_lora_params

    def fails_half_way(tensors: Tensors) -> None:
        update(tensors)
        raise error

    loras = composed(transformer)
    monkeypatch.setattr(transformer, "update_lora_params", fails_half_way)
    with pytest.raises(raised):
        loras.apply([chosen])
    assert_untouched(transformer)
    monkeypatch.setattr(transformer, "update_lora_params", update)
    loras.apply([chosen])
    assert_sum(transformer, chosen)


def test_a_reset_that_fails_is_done_again(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen, reset = eighths(tmp_path / "one.safetensors", shapes, LAYERS), transformer.reset_lora

    def fails() -> None:
        raise RuntimeError("CUDA error: unknown")

    loras = composed(transformer)
    loras.apply([chosen])
    monkeypatch.setattr(transformer, "reset_lora", fails)
    with pytest.raises(RuntimeError, match="unknown"):
        loras.apply([])
    monkeypatch.setattr(transformer, "reset_lora", reset)
    loras.apply([])
    assert_untouched(transformer)


def test_where_the_text_encoders_part_fails_the_transformer_is_reset(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    chosen, text = eighths(tmp_path / "one.safetensors", shapes, LAYERS), TextLoras()
    loras = ComposedLoras(transformer, shapes, CONFIG, text)
    loras.apply([chosen])
    text.error = LoraFailed("It does not fit.")
    with pytest.raises(LoraFailed, match="fit"):
        loras.apply([replace(chosen, weight=0.5)])
    assert_untouched(transformer)


# What is kept ---------------------------------------------------------------------------------------------


@pytest.fixture
def conversions(
    monkeypatch: pytest.MonkeyPatch, transformer: NunchakuFluxTransformer2dModel
) -> list[Tensors]:
    """What was converted, so far."""
    seen: list[Tensors] = []

    def counted(input_lora: Tensors, base_sd: Tensors) -> Tensors:
        seen.append(input_lora)
        return double.to_nunchaku(input_lora, base_sd)

    monkeypatch.setattr(sys.modules[CONVERTER], "to_nunchaku", counted)
    return seen


@pytest.mark.parametrize(
    ("limits", "converted"),
    [({}, 3), ({"adapters": 2}, 4), ({"adapters": 1}, 6), ({"adapter_bytes": 1}, 6), ({"adapters": 0}, 6)],
)
def test_conversions_are_kept_within_the_limits(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    conversions: list[Tensors],
    limits: dict[str, Any],
    converted: int,
) -> None:
    a, b, c = (eighths(tmp_path / f"{rank}.safetensors", shapes, LAYERS, rank) for rank in (1, 2, 3))
    loras = composed(transformer, replace(CONFIG, **limits))
    for chosen in (a, b, a, c, a, b):
        loras.apply([chosen])
        assert_sum(transformer, chosen)
    assert len(conversions) == converted


def test_another_weight_is_another_conversion(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    conversions: list[Tensors],
) -> None:
    chosen, loras = eighths(tmp_path / "one.safetensors", shapes, LAYERS), composed(transformer)
    for weight in (1.0, 0.5, 1.0, -0.5, 0.0, 0.5):
        loras.apply([replace(chosen, weight=weight)])
        assert_sum(transformer, replace(chosen, weight=weight))
    assert len(conversions) == 3


def test_the_models_own_branches_are_kept_once(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    loras = composed(transformer)
    loras.apply(
        [eighths(tmp_path / "one.safetensors", shapes, ["transformer_blocks.0.attn.to_out.0"], rank=16)]
    )
    ((tensors, nbytes),) = loras._kept._entries.values()
    own = transformer._quantized_part_sd
    (down, up) = [key for key, tensor in tensors.items() if tensor is not own.get(key)]
    assert nbytes == tensors[down].nbytes + tensors[up].nbytes == 2 * 2 * 192 * (double.BASE_RANK + 16)


# The double -----------------------------------------------------------------------------------------------


def naive(chosen: LoraRef, transformer: NunchakuFluxTransformer2dModel) -> None:
    """As upstream's examples do it."""
    transformer.update_lora_params(double.compose_lora([(load_file(chosen.path), chosen.weight)]))


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        ("transformer_blocks.0.attn.to_q", KeyError),
        ("single_transformer_blocks.0.proj_out", KeyError),
        ("transformer_blocks.0.ff.net.0.proj", AssertionError),
        ("transformer_blocks.0.ff.net.2", Aborted),
        ("single_transformer_blocks.0.proj_mlp", Aborted),
    ],
)
def test_the_double_fails_as_nunchaku_does(
    transformer: NunchakuFluxTransformer2dModel,
    shapes: dict[str, tuple[int, int]],
    tmp_path: Path,
    layer: str,
    error: type[BaseException],
) -> None:
    with pytest.raises(error):
        naive(eighths(tmp_path / "one.safetensors", shapes, [layer], rank=16), transformer)


def test_the_double_ignores_weights_below_1_of_a_converted_lora_and_keeps_norms(
    transformer: NunchakuFluxTransformer2dModel, shapes: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    chosen = eighths(tmp_path / "one.safetensors", shapes, ["transformer_blocks.0.norm1.linear"])
    tensors = double.to_nunchaku(load_file(chosen.path), transformer._quantized_part_sd)
    assert double.compose_lora([(tensors, 0.5)]) == tensors
    naive(chosen, transformer)
    naive(eighths(tmp_path / "two.safetensors", shapes, ["transformer_blocks.0.attn.to_out.0"]), transformer)
    assert transformer.m.added("transformer_blocks.0.norm1.linear").any()
