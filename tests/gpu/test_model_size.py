"""Parameters are counted from the headers of safetensors files."""

import json
import struct
from pathlib import Path

import pytest
from django.conf import settings
from safetensors import safe_open

from gpu.model_size import FLUX_SCHNELL, ModelSize

FILE = "diffusion_pytorch_model.safetensors"


def write(path: Path, tensors: dict[str, list[int]]) -> None:
    """The header of a safetensors file; nobody reads what would follow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = {
        name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in tensors.items()
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write(tmp_path / "transformer" / FILE, {"a": [1000, 10], "b": [7], "scalar": []})
    write(tmp_path / "text_encoder_2" / "model.safetensors", {"t5": [300]})
    write(tmp_path / "text_encoder" / "model.safetensors", {"clip": [20]})
    write(tmp_path / "vae" / FILE, {"vae": [2, 2]})
    return tmp_path


def test_a_directory_is_counted(model: Path) -> None:
    size = ModelSize.of(str(model))
    assert size == ModelSize(transformer=10_008, t5=300, rest=24)
    assert size.total == 10_332


def test_shards_add_up_and_a_copy_in_another_precision_does_not(model: Path) -> None:
    (model / "transformer" / FILE).unlink()
    for shard, tensors in enumerate(({"a": [100]}, {"b": [50]}), start=1):
        name = f"diffusion_pytorch_model-{shard:05}-of-00002.safetensors"
        write(model / "transformer" / name, tensors)
    write(model / "transformer" / "diffusion_pytorch_model.fp16.safetensors", {"a": [100], "b": [50]})
    assert ModelSize.of(str(model)).transformer == 150


def test_the_demo_model_is_as_large_as_safetensors_says() -> None:
    counted = 0
    for path in Path(settings.FLUXSITE_MODEL).glob("*/*.safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no dict)
                elements = 1
                for side in tensors.get_slice(name).get_shape():
                    elements *= side
                counted += elements
    assert ModelSize.of(settings.FLUXSITE_MODEL).total == counted > 1_000_000


def test_a_hub_id_is_taken_for_schnell() -> None:
    assert ModelSize.of("black-forest-labs/FLUX.1-schnell") is FLUX_SCHNELL
    assert FLUX_SCHNELL.total * 2 / 1024**3 == pytest.approx(31.4, abs=0.05)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00",
        struct.pack("<Q", 2**62),
        struct.pack("<Q", 100) + b"{}",
        struct.pack("<Q", 8) + b"\xff" * 8,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b'{"a": 1}',
    ],
    ids=["empty", "cut off in the length", "huge", "cut off in the header", "no text", "a list", "no shape"],
)
def test_a_file_that_is_not_safetensors_is_named(model: Path, content: bytes) -> None:
    (model / "vae" / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=f"vae/{FILE} is not a safetensors file"):
        ModelSize.of(str(model))


def test_a_folder_without_weights_is_named(model: Path) -> None:
    (model / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="text_encoder_2 holds no safetensors file"):
        ModelSize.of(str(model))
