"""What the programs that train LoRAs call the layers of FLUX, and what others call those of other models.

Without torch: the pages read it too.
"""

import re
from collections.abc import Mapping

Modules = tuple[str, ...]

# "#" stands for the number of the block. Left: the names in Black Forest Labs' code (github.com/
# black-forest-labs/flux), in XLabs' (x-flux), and in transformers before 5. Right: those in LoraWeights.
QKV = tuple(f"transformer_blocks.#.attn.to_{letter}" for letter in "qkv")
ADDED_QKV = tuple(f"transformer_blocks.#.attn.add_{letter}_proj" for letter in "qkv")
SINGLE_QKV = tuple(f"single_{name}" for name in QKV)
FLUX_NAMES = {
    "double_blocks.#.img_attn.qkv": QKV,
    "double_blocks.#.img_attn.proj": ("transformer_blocks.#.attn.to_out.0",),
    "double_blocks.#.img_mlp.0": ("transformer_blocks.#.ff.net.0.proj",),
    "double_blocks.#.img_mlp.2": ("transformer_blocks.#.ff.net.2",),
    "double_blocks.#.img_mod.lin": ("transformer_blocks.#.norm1.linear",),
    "double_blocks.#.txt_attn.qkv": ADDED_QKV,
    "double_blocks.#.txt_attn.proj": ("transformer_blocks.#.attn.to_add_out",),
    "double_blocks.#.txt_mlp.0": ("transformer_blocks.#.ff_context.net.0.proj",),
    "double_blocks.#.txt_mlp.2": ("transformer_blocks.#.ff_context.net.2",),
    "double_blocks.#.txt_mod.lin": ("transformer_blocks.#.norm1_context.linear",),
    "double_blocks.#.processor.qkv_lora1": QKV,
    "double_blocks.#.processor.proj_lora1": ("transformer_blocks.#.attn.to_out.0",),
    "double_blocks.#.processor.qkv_lora2": ADDED_QKV,
    "double_blocks.#.processor.proj_lora2": ("transformer_blocks.#.attn.to_add_out",),
    "single_blocks.#.linear1": (*SINGLE_QKV, "single_transformer_blocks.#.proj_mlp"),
    "single_blocks.#.linear2": ("single_transformer_blocks.#.proj_out",),
    "single_blocks.#.modulation.lin": ("single_transformer_blocks.#.norm.linear",),
    "single_blocks.#.processor.qkv_lora": SINGLE_QKV,
    "single_blocks.#.processor.proj_lora": ("single_transformer_blocks.#.proj_out",),
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    "final_layer.linear": ("proj_out",),
    **{
        f"{theirs}_in.{side}_layer": (f"time_text_embed.{ours}_embedder.linear_{number}",)
        for theirs, ours in (("time", "timestep"), ("vector", "text"), ("guidance", "guidance"))
        for side, number in (("in", 1), ("out", 2))
    },
}
CLIP_NAMES = {
    f"text_model.encoder.layers.#.{name}": (f"encoder.layers.#.{name}",)
    for name in (*(f"self_attn.{letter}_proj" for letter in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2")
}
NUMBER = r"(?<=blocks[._]|layers[._])[0-9]{1,4}"


def _spelled(names: Mapping[str, Modules], separator: str) -> dict[str, Modules]:
    own = {module: (module,) for modules in names.values() for module in modules}
    return {name.replace(".", separator): modules for name, modules in {**names, **own}.items()}


# Flat only after their own prefixes: HunyuanVideo, as wide as FLUX, has "double_blocks.0.img_attn_qkv".
SPELLINGS = (
    (r"lora_(?:unet|transformer)_", "transformer", _spelled(FLUX_NAMES, "_")),
    (r"lora_te1?_", "text_encoder", _spelled(CLIP_NAMES, "_")),
    (r"text_encoder\.|text_encoders\.clip_l\.transformer\.", "text_encoder", _spelled(CLIP_NAMES, ".")),
    (
        r"(?:base_model\.model\.)?(?:transformer\.|diffusion_model\.)?",
        "transformer",
        _spelled(FLUX_NAMES, "."),
    ),
)
STRANGERS = {
    r"unet\.|.*(down|mid|up|put|middle)_block|(text_encoder_2\.|lora_te2_)text": "for Stable Diffusion",
    r"text_encoder_2\.|text_encoders\.t5xxl\.|lora_te[23]_": "for the T5 text encoder, which stays as it is",
    r".*\b(lora_unet_)?blocks[._][0-9]+[._](self|cross)_attn": "for Wan, which makes videos",
    r".*((double|single)_stream_modulation|to_qkv_mlp_proj)": "for FLUX.2",
    r"": "unknown to FLUX",
}
KINDS = {
    r"dora_scale|lora_magnitude_vector": "a DoRA, which also scales the model's own weights",
    r"lokr_": "a LoKr, made of Kronecker products",
    r"hada_": "a LoHa, made of Hadamard products",
    r"(query|key)_norm\.scale$|\.norm_(added_)?[qk]\.weight$": "a control LoRA, which needs a picture",
}
PARTS = {
    "A": r"(.+?)\.(?:lora_A|lora_down|(?:lora\.|lora_linear_layer\.)?down)(?:\.default)?\.weight",
    "B": r"(.+?)\.(?:lora_B|lora_up|(?:lora\.|lora_linear_layer\.)?up)(?:\.default)?\.weight",
    "alpha": r"(.+)\.alpha",
}


def other_kind(key: str) -> str:
    """What a tensor of this name makes of the file, where that is no plain LoRA; else empty."""
    return next((kind for pattern, kind in KINDS.items() if re.search(pattern, key)), "")


def part(key: str) -> tuple[str, str]:
    """Layer and part that a key names; the part is "" where it names none."""
    for part, pattern in PARTS.items():
        if match := re.fullmatch(pattern, key):
            return match[1], part
    return key, ""


def place(layer: str) -> tuple[str, Modules] | None:
    """Component ("transformer", "text_encoder") and modules of FLUX that a file's layer changes, or None."""
    for prefix, component, names in SPELLINGS:
        if match := re.match(prefix, layer):
            number = re.search(NUMBER, layer)
            name = re.sub(NUMBER, "#", layer[match.end() :], count=1)
            if name in names:
                return component, tuple(m.replace("#", number[0] if number else "#") for m in names[name])
    return None


def origin(layer: str) -> str:
    """What a layer that ``place`` does not know is for, in words."""
    return next(origin for pattern, origin in STRANGERS.items() if re.match(pattern, layer))


def shown(name: str) -> str:
    """A name out of a file, fit for a sentence: NUL cannot be stored, and a name may be megabytes long."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:80])
