"""The BF16 engine on a real, tiny FLUX: it draws what was asked, and nothing leaks into the next job."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpu.engines import Cancelled, Engine, ImageSpec, InvalidOutput, LoraFailed, ModelFailed
from tests.gpu.engines.conftest import LORAS, lora, new_engine, ref, spec


def draw(engine: Engine, asked: ImageSpec) -> bytes:
    (image,) = engine.generate(asked, lambda step: None)
    return image.tobytes()


@pytest.mark.parametrize("size", [(64, 64), (64, 256), (256, 144), (128, 96)])
def test_it_draws_the_size_that_was_asked(engine: Engine, size: tuple[int, int]) -> None:
    (image,) = engine.generate(spec(width=size[0], height=size[1]), lambda step: None)
    assert image.size == size


def test_it_reports_every_step(engine: Engine) -> None:
    steps: list[int] = []
    engine.generate(spec(steps=6), steps.append)
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_new_engine_draws_the_same_bytes(engine: Engine) -> None:
    assert draw(engine, spec()) == draw(new_engine(), spec())
    assert draw(engine, spec()) != draw(engine, spec(seed=2))


def test_a_cancelled_picture_stops_at_once_and_the_next_one_is_clean(engine: Engine) -> None:
    before, steps = draw(engine, spec()), []

    def stop_at_two(step: int) -> None:
        steps.append(step)
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        engine.generate(spec(seed=9), stop_at_two)
    assert steps == [1, 2]
    assert draw(engine, spec()) == before


@pytest.mark.parametrize("prompt", ["", "!?", "ünïcödé 🦊 שלום", "star " * 300, "A BIG YELLOW STAR"])
def test_any_text_is_a_prompt(engine: Engine, prompt: str) -> None:
    assert draw(engine, spec(prompt))


def test_a_prompt_is_not_printed(engine: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    draw(engine, spec("confidential " * 300))
    captured = capfd.readouterr()
    assert "confidential" not in captured.out + captured.err


def test_two_loras_with_weights_change_the_picture_and_leave_no_trace(engine: Engine) -> None:
    plain = draw(engine, spec())
    pictures = {
        draw(engine, spec(*("midnight outlined star on blue", *chosen)))
        for chosen in (
            (),
            (lora("night"),),
            (lora("outline"),),
            (lora("night"), lora("outline", 0.6)),
            (lora("night", 0.6), lora("outline")),
        )
    }
    assert len(pictures) == 5
    assert draw(engine, spec()) == plain


def test_a_weight_of_zero_is_no_lora(engine: Engine) -> None:
    asked = spec("a midnight star", lora("night", 0.0))
    assert draw(engine, asked) == draw(engine, spec("a midnight star"))


def changed(tmp_path: Path, change: Any) -> Path:
    """The night LoRA with each tensor changed by ``change(name, tensor)``."""
    tensors = load_file(LORAS / "night.safetensors")
    path = tmp_path / "changed.safetensors"
    save_file(dict(change(name, tensor.clone()) for name, tensor in tensors.items()), path)
    return path


def test_a_lora_for_another_model_is_an_error_with_its_name(engine: Engine, tmp_path: Path) -> None:
    plain = draw(engine, spec())
    foreign = changed(tmp_path, lambda name, tensor: ("unet." + name, tensor))
    with pytest.raises(LoraFailed, match="Foreign"):
        draw(engine, spec("a star", ref(foreign, 1.0, "Foreign")))
    wrong_width = changed(tmp_path, lambda name, tensor: (name, torch.cat([tensor, tensor], dim=-1)))
    with pytest.raises(LoraFailed, match="Too wide"):
        draw(engine, spec("a star", ref(wrong_width, 1.0, "Too wide")))
    assert draw(engine, spec()) == plain


def test_a_missing_lora_file_is_an_error(engine: Engine, tmp_path: Path) -> None:
    gone = lora("night")
    with pytest.raises(LoraFailed, match="Gone"):
        draw(engine, spec("a star", type(gone)("Gone", tmp_path / "gone.safetensors", "0" * 64, 1.0)))


def test_numbers_that_are_none_make_no_picture(engine: Engine, tmp_path: Path) -> None:
    plain = draw(engine, spec())
    damaged = changed(tmp_path, lambda name, tensor: (name, tensor * float("nan")))
    with pytest.raises(InvalidOutput, match="LoRA may be damaged"):
        draw(engine, spec("a star", ref(damaged, 1.0)))
    assert draw(engine, spec()) == plain


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="could not be loaded"):
        new_engine(str(tmp_path)).load()


def test_an_engine_that_was_unloaded_loads_again() -> None:
    engine = new_engine()
    loaded = [engine.loaded]
    before = draw(engine, spec())
    loaded.append(engine.loaded)
    engine.unload()
    loaded.append(engine.loaded)
    assert loaded == [False, True, False]
    assert draw(engine, spec()) == before
