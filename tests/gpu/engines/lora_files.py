"""LoRA files that tests make: their tensors, and how they are written."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from gpu.engines import LoraRef
from gpu.engines.lora_weights import Pair, Shape

Tensors = dict[str, torch.Tensor]
Shapes = tuple[dict[str, Shape], dict[str, Shape]]
RANK = 4


def saved(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> LoraRef:
    path = folder / "lora.safetensors"
    # A file has each of its tensors for itself.
    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, path, metadata)
    return LoraRef.of(path, name="Foggy")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def as_keys(pairs: dict[str, Pair], down: str, up: str) -> Tensors:
    named = {f"{module}.{down}.weight": a for module, (a, _) in pairs.items()}
    return named | {f"{module}.{up}.weight": b for module, (_, b) in pairs.items()}


class Original:
    """A layer as a trainer of Black Forest Labs' own model has it: down (rank, in), up (out, rank), alpha."""

    def __init__(self, out: int, width: int, seed: int, alpha: float) -> None:
        self.down, self.up, self.alpha = noise(RANK, width, seed=seed), noise(out, RANK, seed=-seed), alpha

    @property
    def pair(self) -> Pair:
        return self.down, self.up * (self.alpha / RANK)


def originals(alpha: float, width: int = 3072, doubles: tuple[int, ...] = (0, 18)) -> dict[str, Original]:
    """One of each kind of layer of FLUX, by Black Forest Labs' names, in a few of its blocks."""
    mlp, singles = 4 * width, tuple(block * 2 for block in doubles)
    shapes = {}
    for block in doubles:
        for stream in ("img", "txt"):
            at = f"double_blocks.{block}.{stream}"
            shapes[f"{at}_attn.qkv"] = (3 * width, width)
            shapes[f"{at}_attn.proj"] = (width, width)
            shapes[f"{at}_mlp.0"] = (mlp, width)
            shapes[f"{at}_mlp.2"] = (width, mlp)
            shapes[f"{at}_mod.lin"] = (6 * width, width)
    for block in singles:
        shapes[f"single_blocks.{block}.linear1"] = (3 * width + mlp, width)
        shapes[f"single_blocks.{block}.linear2"] = (width, width + mlp)
        shapes[f"single_blocks.{block}.modulation.lin"] = (3 * width, width)
    shapes |= {
        "img_in": (width, 64),
        "txt_in": (width, 4096 if width == 3072 else 64),
        "time_in.in_layer": (width, 256),
        "time_in.out_layer": (width, width),
        "vector_in.in_layer": (width, 768 if width == 3072 else 64),
        "vector_in.out_layer": (width, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (64, width),
    }
    return {name: Original(*shape, seed, alpha) for seed, (name, shape) in enumerate(shapes.items(), 1)}


def kohya(layers: dict[str, Original]) -> Tensors:
    tensors: Tensors = {}
    for name, layer in layers.items():
        key = "lora_unet_" + name.replace(".", "_")
        tensors |= {f"{key}.lora_down.weight": layer.down, f"{key}.lora_up.weight": layer.up}
        tensors[f"{key}.alpha"] = torch.tensor(layer.alpha)
    return tensors


def lora_on(name: str, width: int = 192, down: str = "lora_A", up: str = "lora_B") -> Tensors:
    return as_keys({name: (noise(4, width), noise(width, 4))}, down, up)


TO_Q = "transformer.transformer_blocks.0.attn.to_q"
A, B, ALPHA = f"{TO_Q}.lora_A.weight", f"{TO_Q}.lora_B.weight", f"{TO_Q}.alpha"
QKV = "diffusion_model.double_blocks.0.img_attn.qkv"
KOHYA = ("lora_down", "lora_up")
