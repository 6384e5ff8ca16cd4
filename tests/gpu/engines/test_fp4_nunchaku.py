"""The nunchaku backend against a double of nunchaku: what it asks for, and what becomes of the answers."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from django.conf import settings
from safetensors.torch import save_file

from gpu.engines import Engine, LoraFailed, ModelFailed, Plan, flux
from gpu.engines.fp4_nunchaku import NunchakuEngine, retype_empty_branches
from tests.gpu.engines import nunchaku_double as double
from tests.gpu.engines.conftest import CONFIG, draw, lora, ref, spec
from tests.gpu.engines.nunchaku_double import NunchakuFluxTransformer2dModel, NunchakuT5EncoderModel, Tensors

Make = Callable[..., NunchakuEngine]
STAR = "a midnight outlined star on blue"


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """Engines with the double's weights, on a GPU of ``capability``."""

    def made(
        precision: str = "int4", capability: tuple[int, int] = (8, 9), config: Any = None, **plan: Any
    ) -> NunchakuEngine:
        folder = tmp_path / f"{precision}{capability}"
        folder.mkdir()
        double.install(monkeypatch, folder, capability)
        double.write_transformer(folder / f"svdq-{precision}_r32.safetensors", precision)
        (folder / "t5.safetensors").touch()
        files = {
            "nunchaku_transformer": str(folder / "svdq-{precision}_r32.safetensors"),
            "nunchaku_t5": str(folder / "t5.safetensors"),
        }
        return NunchakuEngine(
            replace(CONFIG, **files | (config or {})), Plan("nunchaku", precision, 0, **plan)
        )

    return made


def test_it_draws_what_its_weights_draw(make: Make, bf16: Engine) -> None:
    """The double's weights are the demo's: so the pictures are the BF16 engine's, byte for byte."""
    assert draw(make(), spec()) == draw(bf16, spec())


def test_loras_change_the_picture_and_leave_no_trace(make: Make, bf16: Engine) -> None:
    engine = make()
    plain = draw(engine, spec(STAR))
    chosen = (lora("night"), lora("outline", 0.6))
    pictures = {plain, draw(engine, spec(STAR, lora("night"))), draw(engine, spec(STAR, *chosen))}
    assert len(pictures) == 3
    assert draw(engine, spec(STAR, *chosen[::-1])) in pictures
    assert draw(engine, spec(STAR)) == plain == draw(bf16, spec(STAR))


def test_a_lora_of_the_text_encoder_is_applied_by_peft(make: Make, bf16: Engine, tmp_path: Path) -> None:
    engine = make()
    plain = draw(engine, spec())
    layer = "text_model.encoder.layers.0.self_attn.q_proj"
    width = engine._pipeline.text_encoder.config.hidden_size
    save_file(
        {
            f"text_encoder.{layer}.lora_A.weight": torch.full((2, width), 0.5),
            f"text_encoder.{layer}.lora_B.weight": torch.full((width, 2), 0.5),
        },
        tmp_path / "text.safetensors",
    )
    asked = spec("a big yellow star on a blue background", ref(tmp_path / "text.safetensors", 0.5))
    assert draw(engine, asked) == draw(bf16, asked) != plain
    assert draw(engine, spec()) == plain


def test_a_lora_for_another_model_is_an_error_with_its_name(make: Make, tmp_path: Path) -> None:
    engine = make()
    plain = draw(engine, spec())
    tensors = {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(2, 96)}
    tensors["transformer.transformer_blocks.0.attn.to_q.lora_B.weight"] = torch.ones(192, 2)
    save_file(tensors, tmp_path / "wide.safetensors")
    with pytest.raises(LoraFailed, match="Wide"):
        draw(engine, spec("a star", ref(tmp_path / "wide.safetensors", 1.0, "Wide")))
    assert draw(engine, spec()) == plain


@pytest.mark.parametrize(
    ("precision", "capability", "offloaded", "dtype"),
    [
        ("int4", (8, 0), (), torch.bfloat16),
        ("int4", (8, 6), ("transformer",), torch.bfloat16),
        ("int4", (7, 5), (), torch.float16),
        ("int4", (7, 5), ("transformer", "text_encoder_2"), torch.float16),
        ("fp4", (12, 0), (), torch.bfloat16),
        ("fp4", (12, 1), ("transformer",), torch.bfloat16),
    ],
)
def test_it_asks_nunchaku_for_what_was_planned(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    capability: tuple[int, int],
    offloaded: tuple[str, ...],
    dtype: torch.dtype,
) -> None:
    grouped: list[torch.nn.Module] = []
    monkeypatch.setattr(flux, "_offload", lambda component, device: grouped.append(component))
    engine = make(precision, capability, offloaded=offloaded)
    engine.load()
    (call,) = NunchakuFluxTransformer2dModel.calls
    assert Path(call.pop("path")).name == f"svdq-{precision}_r32.safetensors"
    assert call == {"device": engine.device, "offload": "transformer" in offloaded, "torch_dtype": dtype}
    pipeline = engine._pipeline
    assert isinstance(pipeline.transformer, NunchakuFluxTransformer2dModel)
    assert pipeline.transformer.m.attention == ("nunchaku-fp16" if capability == (7, 5) else "flashattn2")
    assert pipeline.text_encoder_2.dtype == pipeline.vae.dtype == dtype
    assert grouped == ([pipeline.text_encoder_2] if "text_encoder_2" in offloaded else []), (
        "nunchaku offloads its own"
    )
    assert NunchakuT5EncoderModel.calls == []


@pytest.mark.parametrize(("offloaded", "device"), [((), torch.device("cpu")), (("text_encoder_2",), "cpu")])
def test_it_takes_the_4_bit_t5_where_memory_asks_for_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, offloaded: tuple[str, ...], device: torch.device | str
) -> None:
    monkeypatch.setattr(flux, "_offload", lambda component, device: None)
    engine = make(four_bit_t5=True, offloaded=offloaded)
    assert draw(engine, spec())
    assert NunchakuT5EncoderModel.calls == [
        {"path": engine.config.nunchaku_t5, "device": device, "torch_dtype": torch.bfloat16}
    ]


def test_on_turing_loras_come_and_go_in_float16(make: Make) -> None:
    engine = make(capability=(7, 5))
    engine.load()
    assert engine._loras
    m = engine._pipeline.transformer.m
    engine._loras.apply([lora("night")])
    changed = [layer for layer in m.weights if m.added(layer).any()]
    engine._loras.apply([])
    assert changed
    assert not any(m.added(layer).any() for layer in m.weights)


def test_turing_would_fail_at_a_reset_without_retyping(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu.engines.fp4_nunchaku.retype_empty_branches", lambda branches, dtype: None)
    engine = make(capability=(7, 5))
    engine.load()
    assert engine._loras
    with pytest.raises(RuntimeError, match="invalid configuration argument"):
        engine._loras.apply([lora("night")])


def test_only_empty_branches_are_retyped() -> None:
    branches: Tensors = {
        "a": torch.zeros(0, 4, dtype=torch.bfloat16),
        "b": torch.ones(2, 2, dtype=torch.bfloat16),
    }
    retype_empty_branches(branches, torch.float16)
    assert (branches["a"].shape, branches["a"].dtype, branches["b"].dtype) == (
        (0, 4),
        torch.float16,
        torch.bfloat16,
    )


def test_the_recipe_names_nunchakus_version(make: Make) -> None:
    assert f"nunchaku {double.VERSION}, int4" in make().backend


def test_it_loads_again_after_unloading(make: Make) -> None:
    engine = make()
    before = draw(engine, spec(STAR, lora("night")))
    engine.unload()
    assert draw(engine, spec(STAR, lora("night"))) == before
    assert len(NunchakuFluxTransformer2dModel.calls) == 2


# Failures -------------------------------------------------------------------------------------------------


def test_without_nunchaku_it_says_how_to_install_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    monkeypatch.setitem(sys.modules, "nunchaku", None)
    with pytest.raises(ModelFailed, match=r"requirements-fp4\.txt"):
        engine.load()
    assert not engine.loaded


def test_it_knows_pypis_nunchaku(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    monkeypatch.setitem(sys.modules, "nunchaku", ModuleType("nunchaku"))
    with pytest.raises(ModelFailed, match=r"PyPI's.*requirements-fp4\.txt"):
        engine.load()


@pytest.mark.parametrize(
    ("config", "plan", "message"),
    [
        ({"nunchaku_transformer": "missing.safetensors"}, {}, "too short"),
        ({"nunchaku_transformer": "someone/something/missing.safetensors"}, {}, "downloaded"),
        ({"nunchaku_t5": "someone/something/missing.safetensors"}, {"four_bit_t5": True}, "downloaded"),
        ({"model": "/missing"}, {}, "/missing"),
        ({}, {"capability": (12, 0)}, "architecture 120"),
        ({}, {"capability": (9, 0)}, "architecture 90"),
    ],
)
def test_what_cannot_be_loaded_is_an_error(
    make: Make, config: dict[str, str], plan: dict[str, Any], message: str
) -> None:
    engine = make(config=config, **plan)
    with pytest.raises(ModelFailed, match=message):
        engine.load()
    assert not engine.loaded


@pytest.mark.parametrize("content", ["damaged", "no metadata", "other metadata"])
def test_a_file_that_is_not_nunchakus_is_an_error(make: Make, tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.safetensors"
    if content == "damaged":
        path.write_bytes(b"not safetensors")
    else:
        save_file({"a": torch.zeros(1)}, path, {"format": "pt"} if content == "other metadata" else None)
    engine = make(config={"nunchaku_transformer": str(path)})
    with pytest.raises(ModelFailed, match="weights"):
        engine.load()


# requirements-fp4.txt -------------------------------------------------------------------------------------

# What nunchaku's wheel is built for.
OF_ITS_OWN = {"torch", "torchvision", "einops", "protobuf", "sentencepiece", "nunchaku"}


def requirements(name: str) -> dict[str, str]:
    """Version or address by package."""
    lines = (Path(settings.BASE_DIR) / name).read_text().splitlines()
    pins = [
        re.split(r"==| @ ", line, maxsplit=1) for line in lines if line and not line.startswith(("#", "-"))
    ]
    return {package: version for package, version in pins}  # noqa: C416


def test_a_nunchaku_host_has_the_versions_of_every_other_host() -> None:
    everywhere, here = requirements("requirements.txt"), requirements("requirements-fp4.txt")
    assert {name: here.get(name) for name in everywhere.keys() - OF_ITS_OWN} == {
        name: version for name, version in everywhere.items() if name not in OF_ITS_OWN
    }
    assert here.keys() - everywhere.keys() <= OF_ITS_OWN


def test_nunchakus_wheel_is_built_for_the_torch_beside_it() -> None:
    text = (Path(settings.BASE_DIR) / "requirements-fp4.txt").read_text()
    wheels = re.findall(r"nunchaku-(.+?)torch(\d+\.\d+)-(cp\d+)-(cp\d+)-linux_x86_64\.whl", text)
    assert {torch_version for _, torch_version, *_ in wheels} == {"2.10"}
    assert "torch==2.10.0\n" in text
    assert [python for *_, python in wheels] == ["cp311", "cp312", "cp313"]
