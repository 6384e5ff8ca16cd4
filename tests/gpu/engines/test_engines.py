"""Both engines on a real, tiny FLUX: they draw what was asked, and nothing leaks into the next job."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import FluxPipeline
from huggingface_hub.utils._http import hf_raise_for_status
from safetensors.torch import load_file, save_file

from gpu.engines import (
    Cancelled,
    DeviceFailed,
    Engine,
    InvalidOutput,
    InvalidSize,
    LoraFailed,
    ModelFailed,
    OutOfMemory,
    device_errors,
)
from gpu.engines.flux import FluxEngine
from tests.gpu.engines.conftest import LORAS, draw, lora, new_engine, ref, spec


@pytest.mark.parametrize("size", [(64, 64), (64, 256), (256, 144), (128, 96)])
def test_it_draws_the_size_that_was_asked(engine: Engine, size: tuple[int, int]) -> None:
    (image,) = engine.generate(spec(width=size[0], height=size[1]), lambda step: None).images
    assert image.size == size


def test_it_reports_every_step(engine: Engine) -> None:
    steps: list[int] = []
    engine.generate(spec(steps=6), steps.append)
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_new_engine_draws_the_same_bytes(engine: Engine) -> None:
    assert draw(engine, spec()) == draw(new_engine(engine.name), spec())
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


@pytest.mark.parametrize(
    ("factor", "error"), [(float("nan"), LoraFailed), (float("inf"), LoraFailed), (1e30, InvalidOutput)]
)
def test_numbers_that_are_none_make_no_picture(
    engine: Engine, tmp_path: Path, factor: float, error: type[Exception]
) -> None:
    plain = draw(engine, spec())
    damaged = changed(tmp_path, lambda name, tensor: (name, tensor * factor))
    with pytest.raises(error):
        draw(engine, spec("a star", ref(damaged, 1.0)))
    assert draw(engine, spec()) == plain


def test_a_model_that_is_not_there_is_an_error(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ModelFailed):
        new_engine(engine.name, model=str(tmp_path)).load()


def test_a_model_whose_owner_asks_who_downloads_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the hub answers for FLUX.1-schnell without a token."""
    request = httpx2.Request("GET", "https://huggingface.co/owner/model/resolve/main/model_index.json")
    answer = httpx2.Response(401, headers={"X-Error-Code": "GatedRepo"}, request=request)

    def refused(*args: object, **options: object) -> None:
        hf_raise_for_status(answer)

    engine = new_engine("bf16")
    monkeypatch.setattr(FluxPipeline, "from_pretrained", refused)
    with pytest.raises(ModelFailed, match="start the workers with HF_TOKEN"):
        engine.load()


@pytest.mark.parametrize("name", ["bf16", "fp4"])
def test_an_engine_that_was_unloaded_loads_again(name: str) -> None:
    engine = new_engine(name)
    loaded = [engine.loaded]
    before = draw(engine, spec())
    loaded.append(engine.loaded)
    engine.unload()
    loaded.append(engine.loaded)
    assert loaded == [False, True, False]
    assert draw(engine, spec()) == before


@pytest.mark.parametrize("size", [(65, 64), (64, 100), (0, 64)])
def test_a_size_that_would_be_rounded_is_refused(engine: Engine, size: tuple[int, int]) -> None:
    with pytest.raises(InvalidSize, match="not a multiple of 16"):
        engine.generate(spec(width=size[0], height=size[1]), lambda step: None)


def apart(one: PIL.Image.Image, other: PIL.Image.Image) -> float:
    """Mean distance of two pictures, in levels of 255."""
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def test_pictures_drawn_together_are_those_drawn_alone(engine: Engine) -> None:
    """Up to rounding: 0.18 of 255 levels at most when this was written."""
    alone = [engine.generate(spec(seed=seed), lambda step: None).images[0] for seed in (1, 2, 3, 4)]
    together = engine.generate(replace(spec(), seeds=(1, 2, 3, 4)), lambda step: None)
    assert together.batch_size == 4
    for one, other in zip(alone, together.images, strict=True):
        assert apart(one, other) < 0.5
    assert apart(alone[0], alone[1]) > 2


def test_a_batch_is_for_small_pictures_whose_bytes_need_not_repeat(bf16: Engine, fp4: Engine) -> None:
    assert [fp4.batch_size(512, 512), fp4.batch_size(512, 528), fp4.batch_size(1024, 1024)] == [4, 1, 1]
    assert bf16.batch_size(64, 64) == 1


def test_a_prompt_is_encoded_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = draw(engine, spec("a green ring"))
    assert isinstance(engine, FluxEngine)

    def encode_again(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patched:
        patched.setattr(engine._pipeline, "_get_t5_prompt_embeds", encode_again)
        assert draw(engine, spec("a green ring")) == first
        draw(engine, spec("a green ring", lora("night")))
        with pytest.raises(AssertionError, match="encoded again"):
            draw(engine, spec("a red ring"))


def test_the_encoded_prompts_kept_are_bounded(engine: Engine) -> None:
    small = new_engine(engine.name, prompts=2)
    assert isinstance(small, FluxEngine)
    for prompt in ("a star", "a ring", "a heart", "a star"):
        draw(small, spec(prompt))
    assert [key[0] for key in small._prompts] == ["a heart", "a star"]


def test_it_tells_which_words_it_did_not_read(engine: Engine) -> None:
    drawn = engine.generate(spec("a big yellow star on a blue background " * 3), lambda step: None)
    # The demo reads 16 tokens, one of which ends the sentence; "a" is none.
    assert drawn.unread == "on a blue background "
    assert engine.generate(spec(), lambda step: None).unread == ""


def fails(engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception, when: Any) -> list[Any]:
    """Make the VAE raise ``error`` when ``when(latents, vae)``; returns what it was given."""
    assert isinstance(engine, FluxEngine)
    engine.load()
    vae, seen = engine._pipeline.vae, []
    decode = vae.decode

    def failing(latents: torch.Tensor, **options: Any) -> Any:
        seen.append((latents.shape[0], vae.use_tiling))
        if when(latents, vae):
            raise error
        return decode(latents, **options)

    monkeypatch.setattr(vae, "decode", failing)
    return seen


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory (at Tensor.h:95)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["torch", "nunchaku", "cpu"],
)
def test_out_of_memory_is_answered_by_tiles_and_one_at_a_time_never_by_another_picture(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = replace(spec(width=128, height=96, steps=3), seeds=(1, 2))
    seen = fails(engine, monkeypatch, error, lambda latents, vae: not vae.use_tiling)
    drawn = engine.generate(asked, lambda step: None)
    assert seen == [(2, False), (1, True), (1, True)]
    assert [image.size for image in drawn.images] == [(128, 96), (128, 96)]
    assert (drawn.batch_size, drawn.vae_tiling) == (1, True)


def test_out_of_memory_even_so_fails_with_the_remedy_and_the_next_picture_is_clean(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = draw(engine, spec())
    with monkeypatch.context() as patched:
        fails(engine, patched, torch.OutOfMemoryError("CUDA out of memory."), lambda latents, vae: True)
        with pytest.raises(OutOfMemory, match=r"64 × 64 needs more memory.*fewer LoRAs") as caught:
            draw(engine, spec("a star", lora("night")))
    assert caught.value.__context__ is None, "the failed frames hold the memory"
    assert draw(engine, spec()) == before


def test_real_memory_that_runs_out_is_told(engine: Engine) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert isinstance(device_errors.told(caught.value), OutOfMemory)
    assert device_errors.told(RuntimeError("shapes cannot be multiplied")) is None


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: unspecified launch failure (at gemm.cu:12)"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"),
    ],
)
def test_any_other_error_of_the_device_is_fatal(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    seen = fails(engine, monkeypatch, error, lambda latents, vae: True)
    with pytest.raises(DeviceFailed, match="The device failed"):
        draw(engine, spec())
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (torch.AcceleratorError("CUDA error: no kernel image is available"), DeviceFailed),
        (torch.OutOfMemoryError("CUDA out of memory."), ModelFailed),
        (RuntimeError("size mismatch for x_embedder.weight"), ModelFailed),
    ],
)
def test_what_goes_wrong_while_loading_is_told_apart(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception, becomes: type[Exception]
) -> None:
    new = new_engine(engine.name)

    def failing() -> None:
        raise error

    monkeypatch.setattr(new, "_load_pipeline", failing)
    with pytest.raises(becomes):
        new.load()
    assert not new.loaded


def test_a_fault_of_the_program_stays_what_it_is(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(engine, monkeypatch, RuntimeError("shapes cannot be multiplied"), lambda latents, vae: True)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        draw(engine, spec())


def test_tiles_can_be_asked_for_and_are_not_left_on(engine: Engine) -> None:
    """The demo's VAE tiles from 64 latents on, so only the flag shows here."""
    before = draw(engine, spec())
    drawn = engine.generate(replace(spec(), vae_tiling=True), lambda step: None)
    assert drawn.vae_tiling
    assert draw(engine, spec()) == before
    assert isinstance(engine, FluxEngine)
    assert not engine._pipeline.vae.use_tiling
