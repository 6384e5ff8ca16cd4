"""What every training loop here shares: averaged weights, the rate's schedule, checkpoints."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn


class Ema:
    """A running average of a module's weights, in float32."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().float().clone() for name, value in module.state_dict().items()}
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's weights; faster at first, when they are far from settled."""
        self.updates += 1
        share = 1 - min(self.decay, self.updates / (self.updates + 10))
        for name, value in module.state_dict().items():
            self.weights[name].lerp_(value.float(), share)


def cosine(step: int, steps: int, warmup: int) -> float:
    """The learning rate's share of its peak: a linear rise, then half a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def clip_step(loss: Tensor, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """One optimiser step with the gradient's norm held to 1."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()


def save_checkpoint(
    path: Path, step: int, module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer
) -> None:
    """Write a checkpoint in one move, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    state = {
        "step": step,
        "module": module.state_dict(),
        "ema": ema.weights,
        "optimiser": optimiser.state_dict(),
    }
    torch.save({**state, "updates": ema.updates}, part)
    part.replace(path)


def load_checkpoint(path: Path, module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer) -> int:
    """Restore a checkpoint if there is one; the step it stopped at, or 0."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    ema.weights, ema.updates = state["ema"], state["updates"]
    return int(state["step"])
