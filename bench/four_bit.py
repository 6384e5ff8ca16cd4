"""Ways to a 4-bit transformer, side by side on the demo model: ``python -m bench.four_bit``.

Every way quantises the same layers, those that ``gpu.engines.fp4_torchao`` does. What is not installed or
does not run here gets a line that says why. To see SDNQ, bitsandbytes and quanto, put them outside of the
virtual environment, ``pip install --no-deps --target /tmp/more sdnq bitsandbytes optimum-quanto``, and set
``PYTHONPATH=/tmp/more``. SDNQ is GPL-3.0-only: look at it, do not ship it.
"""

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from demo.evaluate import Studio, held_out, score
from demo.world import plain_caption
from gpu.engines.fp4_torchao import QUANTISED, Nvfp4Linear, quantise

ROOT = Path(__file__).resolve().parent.parent
LORAS = ROOT / "demo" / "loras"
CPU = torch.device("cpu")
SIDE = 128
SEEDS = 4
PROMPTS = (
    "a big yellow star on a blue background",
    "a small red heart at the left of a white background",
    "a big green ring at the top of a black background",
    "a sun over an orange sea",
    "misty hills under a purple sky with a moon",
    "three glazed spheres on a mint ground",
)
LORA_PROMPT = "midnight, outlined, a big yellow star on a blue background"

# FLUX.1-schnell's transformer/config.json, where it differs from diffusers' defaults.
SCHNELL = {"guidance_embeds": False, "num_layers": 19, "num_single_layers": 38}

Choice = Callable[[str], bool]


@dataclass(frozen=True)
class Way:
    """How to quantise a transformer in place; ``package`` has to be installed for it."""

    name: str
    package: str
    licence: str
    quantise: Callable[[nn.Module], None]


# The ways -------------------------------------------------------------------------------------------------


def in_blocks(name: str) -> bool:
    return name.startswith(QUANTISED)


def modulates(name: str) -> bool:
    """AdaLN's layers, which make shifts, scales and gates of the time and the pooled prompt."""
    return in_blocks(name) and (".norm1" in name or ".norm." in name)


def attends(name: str) -> bool:
    return in_blocks(name) and ".attn." in name


def without_adaln(name: str) -> bool:
    return in_blocks(name) and not modulates(name)


def around_blocks(name: str) -> bool:
    return not in_blocks(name)


def linears(model: nn.Module, chosen: Choice) -> Iterator[tuple[str, nn.Linear]]:
    for name in [name for name, _ in model.named_modules() if chosen(name)]:
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Linear):
            yield name, layer


def ours(chosen: Choice, eight: Choice = lambda name: False) -> Callable[[nn.Module], None]:
    """The engine's 4-bit layers for ``chosen``, except that ``eight`` get 8 bits."""

    def apply(model: nn.Module) -> None:
        quantization = import_module("torchao.quantization")
        for name, layer in list(linears(model, lambda name: chosen(name) or eight(name))):
            if eight(name):
                quantization.quantize_(layer, quantization.Int8WeightOnlyConfig())
            else:
                model.set_submodule(name, Nvfp4Linear.of(layer, CPU))

    return apply


def torchao(module: str, config: str, **options: Any) -> Callable[[nn.Module], None]:
    """A configuration class of torchao, applied to the blocks."""

    def apply(model: nn.Module) -> None:
        made = getattr(import_module(f"torchao.{module}"), config)(**options)
        quantize_ = import_module("torchao.quantization").quantize_
        quantize_(model, made, filter_fn=lambda layer, name: isinstance(layer, nn.Linear) and in_blocks(name))

    return apply


def torchao_mxfp4(model: nn.Module) -> None:
    tensors = import_module("torchao.prototype.mx_formats.mx_tensor")
    for _, layer in linears(model, in_blocks):
        packed = tensors.MXTensor.to_mx(layer.weight.detach(), torch.float4_e2m1fn_x2, 32)
        layer.weight = nn.Parameter(packed, requires_grad=False)


def bitsandbytes(kind: str) -> Callable[[nn.Module], None]:
    """Its own layers, put in by hand: through diffusers it wants a GPU."""

    def apply(model: nn.Module) -> None:
        bnb = import_module("bitsandbytes").nn
        for name, layer in list(linears(model, in_blocks)):
            options = {"quant_type": kind, "compress_statistics": False}
            packed = bnb.Linear4bit(layer.in_features, layer.out_features, bias=False, **options)
            packed.weight = bnb.Params4bit(layer.weight.detach(), requires_grad=False, **options)
            packed.bias = layer.bias
            model.set_submodule(name, packed.to(CPU))

    return apply


def quanto(model: nn.Module) -> None:
    library = import_module("optimum.quanto")
    library.quantize(model, weights=library.qint4, include=[f"{prefix}*" for prefix in QUANTISED])
    library.freeze(model)


def sdnq(kind: str) -> Callable[[nn.Module], None]:
    def apply(model: nn.Module) -> None:
        around = [name for name, _ in linears(model, around_blocks)]
        options = {"modules_to_not_convert": around, "add_skip_keys": False, "minimum_allowed_numel": 0}
        import_module("sdnq.quantizer").sdnq_post_load_quant(model, weights_dtype=kind, **options)

    return apply


INT4 = "Int4WeightOnlyConfig"
OPAQUE = ("prototype.quantization.int4.inference_workflow", "PrototypeInt4WeightOnlyConfig")
WAYS = (
    Way("torchao NVFP4, our layer", "torchao", "BSD-3", ours(in_blocks)),
    Way("torchao NVFP4", "torchao", "BSD-3", torchao("prototype.mx_formats", "NVFP4WeightOnlyConfig")),
    Way("torchao MXFP4", "torchao", "BSD-3", torchao_mxfp4),
    Way("torchao NF4", "torchao", "BSD-3", torchao("prototype._nf4tensor_api", "NF4WeightOnlyConfig")),
    Way("torchao UIntx 4 (gemlite)", "torchao", "BSD-3",
        torchao("prototype.quantization.quant_api", "UIntxWeightOnlyConfig", group_size=64)),
    Way("torchao Int4 plain", "torchao", "BSD-3", torchao("quantization", INT4, group_size=32)),
    Way("torchao Int4 tiles", "torchao", "BSD-3",
        torchao("quantization", INT4, group_size=32, int4_packing_format="tile_packed_to_4d")),
    Way("torchao Int4 for CPUs", "torchao", "BSD-3", torchao(*OPAQUE, group_size=32)),
    Way("the same, HQQ", "torchao", "BSD-3",
        torchao(*OPAQUE, group_size=32, int4_choose_qparams_algorithm="hqq")),
    Way("bitsandbytes NF4", "bitsandbytes", "MIT", bitsandbytes("nf4")),
    Way("bitsandbytes FP4", "bitsandbytes", "MIT", bitsandbytes("fp4")),
    Way("quanto Int4", "optimum-quanto", "Apache-2", quanto),
    Way("SDNQ uint4", "sdnq", "GPL-3", sdnq("uint4")),
    Way("SDNQ float4_e2m1fn", "sdnq", "GPL-3", sdnq("float4_e2m1fn")),
    Way("torchao Int8", "torchao", "BSD-3", torchao("quantization", "Int8WeightOnlyConfig")),
)  # fmt: skip

LAYERS = tuple(
    Way(name, "torchao", "BSD-3", how)
    for name, how in {
        "everything": ours(lambda name: True),
        "only what is around the blocks": ours(around_blocks),
        "only AdaLN": ours(modulates),
        "the blocks (chosen)": ours(in_blocks),
        "the blocks, 8 bits around": ours(in_blocks, around_blocks),
        "the blocks, AdaLN in 8 bits": ours(in_blocks, modulates),
        "the blocks, attention in 8 bits": ours(in_blocks, attends),
        "the blocks without AdaLN": ours(without_adaln),
    }.items()
)


# Bytes ----------------------------------------------------------------------------------------------------


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all tensors of a module: codes, scales, and what quantised tensors carry besides."""
    return sum(_bytes(tensor) for tensor in [*module.parameters(), *module.buffers()])


def _bytes(tensor: Any) -> int:
    if (state := getattr(tensor, "quant_state", None)) is not None:  # bitsandbytes
        parts = [part for part in vars(state).values() if isinstance(part, Tensor)]
        return int(tensor.nbytes) + sum(part.nbytes for part in parts)
    if not hasattr(tensor, "__tensor_flatten__"):
        return int(tensor.nbytes)
    names, _ = tensor.__tensor_flatten__()
    return sum(_bytes(getattr(tensor, name)) for name in names)


# Measuring ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """``velocity``: relative L2; ``pixels``: mean distance, 0..1; times in seconds, BF16's beside its own."""

    bytes: int
    velocity: float
    pixels: float
    load: float
    picture: float
    bf16_picture: float
    lora: str


class Bench:
    """One pipeline, whose transformer is exchanged."""

    def __init__(self, model: Path, turns: int) -> None:
        self.studio, self.turns = Studio(model), turns
        self.bf16: Any = self.studio.pipe.transformer
        self.calls: list[tuple[dict[str, Any], Tensor]] = []
        hook = self.bf16.register_forward_hook(
            lambda model, args, named, output: self.calls.append((named, output[0].float())), with_kwargs=True
        )
        self.pictures = self.draw()
        hook.remove()

    def draw(self) -> Tensor:
        return self.studio.draw(PROMPTS * SEEDS, SIDE, SIDE)

    def measure(self, way: Way) -> Row:
        way.quantise(copy.deepcopy(self.bf16))  # imports what it needs
        transformer = copy.deepcopy(self.bf16)
        load = seconds_of(lambda: way.quantise(transformer))
        size = stored_bytes(transformer)
        self.studio.pipe.transformer = transformer
        row = Row(
            bytes=size,
            velocity=self.velocity_error(transformer),
            pixels=float((self.draw() - self.pictures).abs().mean()),
            load=load,
            **self.times(transformer),
            lora=self.lora(),
        )
        self.studio.pipe.transformer = self.bf16
        return row

    @torch.no_grad()
    def velocity_error(self, transformer: nn.Module) -> float:
        errors = []
        for named, expected in self.calls:
            found = transformer(**named)[0].float()
            errors.append(float((found - expected).norm() / expected.norm()))
        return statistics.mean(errors)

    def times(self, transformer: nn.Module) -> dict[str, float]:
        """Medians of one picture with this transformer and with BF16's, in turns."""
        seconds: dict[str, list[float]] = {"picture": [], "bf16_picture": []}
        for _ in range(self.turns):
            for name, used in (("picture", transformer), ("bf16_picture", self.bf16)):
                self.studio.pipe.transformer = used
                seconds[name].append(seconds_of(lambda: self.studio.draw(PROMPTS[:1], SIDE, SIDE)))
        self.studio.pipe.transformer = transformer
        return {name: statistics.median(took) for name, took in seconds.items()}

    def lora(self) -> str:
        """What two peft adapters do, and whether they leave a trace."""
        pipe = self.studio.pipe
        before = self.lora_picture()
        try:
            for name in ("night", "outline"):
                weights = pipe.lora_state_dict(LORAS / f"{name}.safetensors")
                pipe.load_lora_into_transformer(weights, None, pipe.transformer, name, _pipeline=pipe)
            pipe.set_adapters(["night", "outline"], [1.0, 0.6])
            during = self.lora_picture()
            pipe.delete_adapters(["night", "outline"])
        except Exception as error:
            return f"no: {in_a_line(error)}"
        if torch.equal(before, during):
            return "no effect"
        return "exact" if torch.equal(before, self.lora_picture()) else "leaves a trace"

    def lora_picture(self) -> Tensor:
        return self.studio.draw([LORA_PROMPT], SIDE, SIDE)

    def judged(self, way: Way, count: int) -> dict[str, float]:
        """The demo's judge on captions that training never saw."""
        pictures = held_out(count)
        self.studio.pipe.transformer = copy.deepcopy(self.bf16)
        way.quantise(self.studio.pipe.transformer)
        return score(pictures, self.studio.draw([plain_caption(picture) for picture in pictures], SIDE, SIDE))


def seconds_of(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_a_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:90]}"


# Tables ---------------------------------------------------------------------------------------------------


def print_ways(bench: Bench, title: str, ways: tuple[Way, ...]) -> None:
    whole = stored_bytes(bench.bf16)
    print(
        f"\n| {title} | MiB | of BF16 | velocity | pixels | load s | picture ms | BF16 ms | LoRA | licence |"
    )
    print("|---" * 10 + "|")
    for way in ways:
        print(f"| {way.name} | {figures(bench, way, whole)} |", flush=True)


def figures(bench: Bench, way: Way, whole: int) -> str:
    if not installed(way.package):
        return f"{way.package} is not installed"
    try:
        row = bench.measure(way)
    except Exception as error:
        bench.studio.pipe.transformer = bench.bf16
        return in_a_line(error)
    size = f"{row.bytes / 2**20:.2f} | {row.bytes / whole:.3f}"
    errors = f"{row.velocity:.4f} | {row.pixels:.4f}"
    times = f"{row.load:.2f} | {row.picture * 1000:.0f} | {row.bf16_picture * 1000:.0f}"
    return f"{size} | {errors} | {times} | {row.lora} | {way.licence}"


def print_heading(bench: Bench) -> None:
    packages = sorted({way.package for way in WAYS})
    print(", ".join(f"{package} {version(package)}" for package in packages if installed(package)))
    print(f"BF16: {stored_bytes(bench.bf16):,} bytes; another seed: {other_seed(bench):.4f} pixels away")


def installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def other_seed(bench: Bench) -> float:
    """The mean distance of two pictures of one prompt, for scale."""
    count = len(PROMPTS)
    return float((bench.pictures[:count] - bench.pictures[count : 2 * count]).abs().mean())


def print_judged(bench: Bench, count: int) -> None:
    print(f"\nThe judge, {count} captions that training never saw, {SIDE} px:")
    for way in (Way("BF16", "torch", "BSD-3", lambda model: None), WAYS[0]):
        shares = bench.judged(way, count)
        print(f"{way.name}: " + ", ".join(f"{claim} {share:.1%}" for claim, share in shares.items()))


def print_flux() -> None:
    """The arithmetic for the real FLUX.1-schnell: the same code, on tensors without data."""
    with torch.device("meta"):
        flux = FluxTransformer2DModel(**SCHNELL).to(torch.bfloat16)
    whole = stored_bytes(flux)
    parts = {"the blocks' linear layers": in_blocks, "of them AdaLN": modulates, "of them attention": attends}
    print(f"\nFLUX.1-schnell: {whole / 2:,.0f} parameters, {whole / 1e9:.2f} GB in BF16")
    for name, chosen in parts.items():
        print(f"{name}: {sum(layer.weight.nbytes for _, layer in linears(flux, chosen)) / whole:.1%}")
    quantise(flux, torch.device("meta"))
    packed = stored_bytes(flux)
    print(f"4-bit: {packed / 1e9:.2f} GB, {packed / 2**30:.2f} GiB, {packed / whole:.3f} of BF16")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, default=ROOT / "demo" / "model")
    options.add_argument("--turns", type=int, default=7, help="pictures timed for each way")
    options.add_argument("--judge", type=int, default=0, metavar="N", help="let the judge read N pictures")
    chosen = options.parse_args()
    warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated without")
    warnings.filterwarnings("ignore", "Already found a `peft_config`")
    bench = Bench(chosen.model, chosen.turns)
    print_heading(bench)
    print_ways(bench, "way", WAYS)
    print_ways(bench, "which layers, in our 4 bits", LAYERS)
    if chosen.judge:
        print_judged(bench, chosen.judge)
    print_flux()


if __name__ == "__main__":
    main()
