"""A batch of anti-aliased canvases on which signed-distance forms are painted."""

from __future__ import annotations

import torch
from torch import Tensor

from demo.lexicon import Rgb

OUTLINE = 0.022
"""Half the width of an outline, in shorter sides."""


def rgb(colours: list[Rgb]) -> Tensor:
    """Colours (B, 3) in 0..1."""
    return torch.tensor(colours, dtype=torch.float32) / 255.0


def mix(a: Tensor, b: Tensor, share: Tensor | float) -> Tensor:
    """`a` where `share` is 0, `b` where it is 1."""
    return a + (b - a) * share


class Canvas:
    """Pictures (B, 3, H, W) in 0..1; coordinates count shorter sides from the upper left corner."""

    def __init__(self, batch: int, height: int, width: int, outlined: bool = False) -> None:
        self.pixels = float(min(height, width))
        self.width, self.height = width / self.pixels, height / self.pixels
        self.x = ((torch.arange(width) + 0.5) / self.pixels).view(1, 1, width)
        self.y = ((torch.arange(height) + 0.5) / self.pixels).view(1, height, 1)
        self.image = torch.zeros(batch, 3, height, width)
        self.open = torch.ones(batch, height, width)
        self.outlined = outlined

    def coverage(self, distance: Tensor) -> Tensor:
        """Share of each pixel inside a form, from its signed distance (B, H, W)."""
        return (0.5 - distance * self.pixels).clamp(0, 1)

    def fill(self, colour: Tensor) -> None:
        """Set every pixel; `colour` is (B, 3, 1, 1) or (B, 3, H, W)."""
        self.image = colour.expand_as(self.image).clone()

    def blend(self, colour: Tensor, share: Tensor) -> None:
        """Lay `colour` (B, 3, …) over the picture with opacity `share` (B, H, W)."""
        self.image = mix(self.image, colour, share.unsqueeze(1))

    def paint(self, distance: Tensor, colour: Tensor, ink: Tensor | None = None) -> None:
        """Paint a form that hides what is behind it; `ink` (B, 3) is its outline's colour when outlined."""
        cover = self.coverage(distance)
        self.blend(colour, cover)
        self.open = self.open * (1 - cover)
        if self.outlined:
            line = self.coverage(distance.abs() - OUTLINE)
            self.blend(column(ink if ink is not None else torch.zeros(1, 3) + 0.05), line)
            self.open = self.open * (1 - line)


def column(values: Tensor) -> Tensor:
    """(B, 3) as (B, 3, 1, 1)."""
    return values.view(*values.shape, 1, 1)


def plane(values: Tensor) -> Tensor:
    """(B,) as (B, 1, 1)."""
    return values.view(-1, 1, 1)
