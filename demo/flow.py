"""Flow matching on the frozen autoencoder's latents, with the text encoders trained along."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from demo import world
from demo.attention import plain_attention
from demo.flow_model import DemoFlux, pack
from demo.render import render
from demo.tokenizers import MAX_TOKENS
from demo.training import Ema, clip_step, cosine, load_checkpoint, save_checkpoint
from demo.vae import load_vae

TOKEN_BUDGET = 4608
"""Tokens of picture and text in one batch, whatever the pictures' size."""
_USUAL = {(4, 4): 20, (6, 6): 12, (8, 8): 22, (8, 12): 5, (12, 8): 5, (9, 16): 4, (16, 9): 4, (16, 16): 6}
_NATIVE = (8, 8)
_SMALL = ((4, 4), (4, 4), (4, 4), (5, 5), (6, 6), (4, 6), (6, 4))
_SIGMAS = torch.tensor((1.0, 0.75, 0.5, 0.25))
_SIGMA_WEIGHTS = torch.tensor((0.4, 0.3, 0.15, 0.15))
_POOL = 1600


@dataclass(frozen=True)
class Batch:
    """Pictures of one size (in tokens) and their packed latents (B, h·w, 64)."""

    size: tuple[int, int]
    pictures: list[world.Picture]
    latents: Tensor


def sample_size(rng: random.Random, small: bool = False, native: float = 0.0) -> tuple[int, int]:
    """Rows and columns of tokens (16 pixels each): mostly the usual sizes, sometimes any of 4..16.

    A share `native` is 128 × 128 pixels.
    """
    if rng.random() < native:
        return _NATIVE
    if small:
        return rng.choice(_SMALL)
    if rng.random() < 0.28:
        return rng.randint(4, 16), rng.randint(4, 16)
    return rng.choices(list(_USUAL), weights=list(_USUAL.values()))[0]


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in 0..1 as packed, scaled latents (B, H/16·W/16, 64)."""
    pixels = (pixels * 2 - 1).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        mean = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(pixels, 16)]).float()
    return pack(((mean - vae.config.shift_factor) * vae.config.scaling_factor).contiguous())


def make_batch(
    vae: AutoencoderKL, rng: random.Random, generator: torch.Generator, small: bool, native: float
) -> Batch:
    """Freshly rendered and encoded training pictures of one size."""
    height, width = sample_size(rng, small, native)
    count = max(TOKEN_BUDGET // (height * width + MAX_TOKENS), 1)
    pictures = [world.sample_training(rng, shapes=0.85 if small or native else 0.6) for _ in range(count)]
    pixels = render(pictures, 16 * height, 16 * width, generator)
    return Batch((height, width), pictures, encode(vae, pixels).bfloat16())


class Pool:
    """Encoded batches, drawn from at random and renewed slowly: encoding costs half a step.

    Small pictures are kept apart from the mixture of sizes: words are bound to shapes on small ones, where a
    batch holds many, and most of the mixture comes after. With a share `native` of the native size there are
    none apart.
    """

    def __init__(self, vae: AutoencoderKL, seed: int, first: int, native: float) -> None:
        self.vae, self.rng, self.native = vae, random.Random(seed), native
        self.generator = torch.Generator().manual_seed(seed)
        self.batches: dict[bool, list[Batch]] = {True: [], False: []}
        for i in range(first):
            self.renew(small=i % 2 == 0 and not native)

    def renew(self, small: bool) -> None:
        """Add a batch; once there are many, in place of an old one."""
        batch = make_batch(self.vae, self.rng, self.generator, small, self.native)
        kept = self.batches[small]
        if len(kept) < _POOL:
            kept.append(batch)
        else:
            kept[self.rng.randrange(_POOL)] = batch

    def step(self, number: int, share: float) -> Batch:
        """A random batch, mostly of small pictures while `share` of training is early."""
        small = not self.native and self.rng.random() < (0.75 if share < 0.6 else 0.35)
        if number % 5 == 0:
            self.renew(small)
        return self.rng.choice(self.batches[small])


def sample_sigma(count: int) -> Tensor:
    """Noise levels (B,): most of them the four that four-step sampling visits, the rest continuous."""
    visited = _SIGMAS[torch.multinomial(_SIGMA_WEIGHTS, count, replacement=True)]
    anywhere = torch.sigmoid(1.1 * torch.randn(count) + 0.4)
    return torch.where(torch.rand(count) < 0.7, visited, anywhere)


def token_weights(clean: Tensor) -> Tensor:
    """Weights (B, h·w, 1) of mean 1 that favour tokens unlike the picture's usual one: objects."""
    away = (clean - clean.median(dim=1, keepdim=True).values).square().mean(dim=-1, keepdim=True)
    weights = 1 + 3 * (away > 0.1 * away.amax(dim=1, keepdim=True))
    return weights / weights.float().mean()


def flow_loss(flux: DemoFlux, batch: Batch, captions: list[str], focused: bool = False) -> Tensor:
    """Mean squared error of the velocity from picture to noise; `focused` weighs objects above grounds."""
    clean = batch.latents.float()
    noise = torch.randn_like(clean)
    sigma = sample_sigma(len(clean))
    level = sigma.view(-1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16), plain_attention():
        velocity = flux((1 - level) * clean + level * noise, sigma, captions, batch.size)
    error = (velocity.float() - (noise - clean)).square()
    weighted: Tensor = error * token_weights(clean) if focused else error
    return weighted.mean()


def captions_for(batch: Batch, rng: random.Random) -> list[str]:
    """A new phrasing of each picture's caption."""
    return [world.caption(picture, rng) for picture in batch.pictures]


def train_flow(work: Path, steps: int, minutes: float, rate: float = 1.3e-3, native: float = 0.0) -> None:
    """Train until `steps` or for `minutes`, whichever ends first; the rate decays towards that end.

    `native` is the share of batches at the native size, 128 × 128 pixels; they are mostly of shapes.
    """
    flux, vae = DemoFlux(), load_vae(work).to(memory_format=torch.channels_last)
    ema = Ema(flux, 0.999)
    optimiser = torch.optim.AdamW(
        flux.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    done = load_checkpoint(work / "flow.pt", flux, ema, optimiser)
    pool = Pool(vae, seed=done + 1, first=24, native=native)
    began, running = time.monotonic(), 0.0
    for step in range(done, steps):
        share = max((time.monotonic() - began) / 60 / minutes if minutes else 0.0, step / steps)
        optimiser.param_groups[0]["lr"] = rate * min(cosine(int(share * 10_000), 10_000, 0), (step + 1) / 200)
        batch = pool.step(step, share)
        loss = flow_loss(flux, batch, captions_for(batch, pool.rng), focused=share < 0.75)
        clip_step(loss, flux, optimiser)
        ema.update(flux)
        running += (loss.item() - running) / min(step - done + 1, 200)
        if (step + 1) % 50 == 0:
            print(f"flow {step + 1} loss {running:.4f} {time.monotonic() - began:.0f} s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps or share >= 1:
            save_checkpoint(work / "flow.pt", step + 1, flux, ema, optimiser)
        if share >= 1:
            break


def load_flow(work: Path) -> DemoFlux:
    """The averaged weights of the newest checkpoint."""
    flux = DemoFlux()
    flux.load_state_dict(torch.load(work / "flow.pt", weights_only=True)["ema"])
    return flux.eval().requires_grad_(False)
