"""The demo's autoencoder: 8 × 8 pixels to 16 channels, trained on crops of bigger renders."""

from __future__ import annotations

import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from demo import world
from demo.render import render
from demo.training import Ema, clip_step, cosine, load_checkpoint, save_checkpoint

CHANNELS = (16, 32, 64, 96)
LATENTS = 16
_OPPONENT = torch.tensor(((0.577, 0.577, 0.577), (1.414, -1.414, 0.0), (0.816, 0.816, -1.633)))
CROP = 64
_STYLES = ("",) * 8 + ("outlined", "midnight")
_SIZES = (
    (64, 64),
    (64, 64),
    (96, 96),
    (128, 128),
    (128, 128),
    (128, 192),
    (192, 128),
    (144, 256),
    (256, 256),
)


def build_vae() -> AutoencoderKL:
    """An untrained autoencoder in the layout of FLUX's, but narrow.

    One group per normalisation: with few channels a group, the mean colour of a picture is normalised away.
    """
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=1,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def sample_pixels(rng: random.Random, generator: torch.Generator, budget: int = 16 * CROP * CROP) -> Tensor:
    """Crops (B, 3, 64, 64), or one time in four whole pictures, of `budget` pixels in all, in -1..1."""
    height, width = rng.choice(_SIZES)
    whole = rng.random() < 0.25
    count = budget // (height * width if whole else CROP * CROP)
    drawn = count if whole or height * width < 128 * 256 else count // 4
    pictures = [world.sample_training(rng) for _ in range(max(drawn, 1))]
    pixels = render(pictures, height, width, generator, rng.choice(_STYLES)) * 2 - 1
    if whole:
        return pixels
    return torch.stack([_crop(pixels[i % len(pictures)], rng) for i in range(count)])


def _crop(pixels: Tensor, rng: random.Random) -> Tensor:
    top, left = (rng.randint(0, side - CROP) for side in pixels.shape[1:])
    return pixels[:, top : top + CROP, left : left + CROP]


def opponent(pixels: Tensor) -> Tensor:
    """Lightness and two colour axes (B, 3, H, W), colour counting double: plain RGB error learns hue last."""
    return torch.einsum("oc,bchw->bohw", _OPPONENT, pixels)


def reconstruction_loss(drawn: Tensor, target: Tensor) -> Tensor:
    """Pixel error plus the error of 4 × 4 and 16 × 16 means, which weighs hue against edges."""
    drawn, target = opponent(drawn), opponent(target)
    loss = (drawn - target).abs().mean() + 2 * F.mse_loss(drawn, target)
    for side in (4, 16):
        loss = loss + 2 * (F.avg_pool2d(drawn, side) - F.avg_pool2d(target, side)).abs().mean()
    return loss


def vae_loss(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Reconstruction through noised latents, because the flow's latents are never exact."""
    with torch.autocast("cpu", torch.bfloat16):
        mean = vae.encode(pixels).latent_dist.mean
        spread = mean.detach().float().std() * 0.3 * torch.rand(mean.shape[0], 1, 1, 1)
        drawn = vae.decode(mean + spread * torch.randn(mean.shape)).sample
    mean = mean.float()
    scale = mean.mean() ** 2 + torch.log(mean.std()) ** 2
    loss: Tensor = reconstruction_loss(drawn.float(), pixels) + 1e-3 * scale
    return loss


def train_vae(work: Path, steps: int, rate: float = 2e-3) -> None:
    """Train, or go on training, until `steps`; checkpoints go to `work`/vae.pt."""
    vae = build_vae().to(memory_format=torch.channels_last)
    ema = Ema(vae, 0.998)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=1e-3)
    done = load_checkpoint(work / "vae.pt", vae, ema, optimiser)
    rng, generator = random.Random(done), torch.Generator().manual_seed(done)
    began, running = time.monotonic(), 0.0
    for step in range(done, steps):
        optimiser.param_groups[0]["lr"] = rate * cosine(step, steps, warmup=100)
        pixels = sample_pixels(rng, generator).contiguous(memory_format=torch.channels_last)
        loss = vae_loss(vae, pixels)
        clip_step(loss, vae, optimiser)
        ema.update(vae)
        running += (loss.item() - running) / min(step - done + 1, 200)
        if (step + 1) % 100 == 0:
            print(f"vae {step + 1}/{steps} loss {running:.4f} {time.monotonic() - began:.0f} s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            save_checkpoint(work / "vae.pt", step + 1, vae, ema, optimiser)


def edge_loss(drawn: Tensor, target: Tensor) -> Tensor:
    """Error of the differences between neighbouring pixels: what is blurred pays here."""
    across, down = (torch.diff(drawn - target, dim=dim).abs().mean() for dim in (-1, -2))
    return across + down


def sharpen_loss(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """The decoder's loss on the frozen encoder's latents: absolute errors only, which favour crisp edges."""
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            mean = vae.encode(pixels).latent_dist.mean
        spread = mean.float().std() * 0.2 * torch.rand(mean.shape[0], 1, 1, 1)
        drawn = vae.decode(mean + spread * torch.randn(mean.shape)).sample
    drawn, target = opponent(drawn.float()), opponent(pixels)
    pooled = (F.avg_pool2d(drawn, 8) - F.avg_pool2d(target, 8)).abs().mean()
    return (drawn - target).abs().mean() + 2 * edge_loss(drawn, target) + pooled


def sharpen_vae(work: Path, steps: int, rate: float = 1.5e-3) -> None:
    """Train the decoder alone for `steps` more: the latents, and so the flow, stay as they are."""
    vae = build_vae().to(memory_format=torch.channels_last)
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True)["ema"])
    vae.encoder.requires_grad_(False)
    decoder, ema = vae.decoder, Ema(vae.decoder, 0.998)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=1e-3)
    done = load_checkpoint(work / "decoder.pt", decoder, ema, optimiser)
    rng, generator = random.Random(done + 11), torch.Generator().manual_seed(done + 11)
    began, running = time.monotonic(), 0.0
    for step in range(done, steps):
        optimiser.param_groups[0]["lr"] = rate * cosine(step, steps, warmup=100)
        pixels = sample_pixels(rng, generator).contiguous(memory_format=torch.channels_last)
        loss = sharpen_loss(vae, pixels)
        clip_step(loss, decoder, optimiser)
        ema.update(decoder)
        running += (loss.item() - running) / min(step - done + 1, 200)
        if (step + 1) % 100 == 0:
            print(
                f"sharpen {step + 1}/{steps} loss {running:.4f} {time.monotonic() - began:.0f} s", flush=True
            )
        if (step + 1) % 500 == 0 or step + 1 == steps:
            save_checkpoint(work / "decoder.pt", step + 1, decoder, ema, optimiser)


def load_vae(work: Path) -> AutoencoderKL:
    """The averaged weights of the newest checkpoint, measured: latents / scaling have unit spread."""
    vae = build_vae()
    state = torch.load(work / "vae.pt", weights_only=True)
    vae.load_state_dict(state["ema"])
    if (work / "decoder.pt").exists():
        vae.decoder.load_state_dict(torch.load(work / "decoder.pt", weights_only=True)["ema"])
    vae.eval().requires_grad_(False)
    _quiet_variance(vae)
    shift, spread = measure_latents(vae)
    vae.register_to_config(shift_factor=shift, scaling_factor=1 / spread)
    return vae


def _quiet_variance(vae: AutoencoderKL) -> None:
    """Only the mean is trained: pin the log-variance low, so that a sampled latent is the mean."""
    vae.encoder.conv_out.weight.data[LATENTS:] = 0
    vae.encoder.conv_out.bias.data[LATENTS:] = -14


@torch.no_grad()
def measure_latents(vae: AutoencoderKL, batches: int = 24) -> tuple[float, float]:
    """Mean and standard deviation of the latents over the training mixture."""
    rng, generator = random.Random(7), torch.Generator().manual_seed(7)
    latents = [vae.encode(sample_pixels(rng, generator)).latent_dist.mean.flatten() for _ in range(batches)]
    values = torch.cat(latents)
    return round(values.mean().item(), 4), round(values.std().item(), 4)
