"""Signed distances of the six shapes, in units of the shape's radius (y grows downwards)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def circle(x: Tensor, y: Tensor) -> Tensor:
    """A disc of radius 0.92."""
    return torch.sqrt(x * x + y * y) - 0.92


def square(x: Tensor, y: Tensor) -> Tensor:
    """An upright square of half side 0.82."""
    return torch.maximum(x.abs(), y.abs()) - 0.82


def triangle(x: Tensor, y: Tensor) -> Tensor:
    """An isosceles triangle, apex up at (0, -1), base from (-1, 0.75) to (1, 0.75)."""
    slant = (1.75 * x.abs() - (y + 1.0)) / math.hypot(1.75, 1.0)
    return torch.maximum(slant, y - 0.75)


def star(x: Tensor, y: Tensor) -> Tensor:
    """A five-pointed star with a point up; inner radius 0.45 of the outer."""
    sector = 2 * math.pi / 5
    angle = torch.atan2(x, -y)
    folded = (torch.remainder(angle + sector / 2, sector) - sector / 2).abs()
    radius = torch.sqrt(x * x + y * y)
    along, across = radius * torch.cos(folded), radius * torch.sin(folded)
    tip, inner = 1.08, 0.48
    edge_x, edge_y = inner * math.cos(sector / 2) - tip, inner * math.sin(sector / 2)
    return ((along - tip) * edge_y - across * edge_x) / math.hypot(edge_x, edge_y)


def heart(x: Tensor, y: Tensor) -> Tensor:
    """A square standing on its corner, with half discs on its two upper sides."""
    half = 0.82
    x, y = x.abs(), y - 0.12
    lower = (x + y.abs() - half) / math.sqrt(2)
    lobe = torch.sqrt((x - half / 2) ** 2 + (y + half / 2) ** 2) - half / math.sqrt(2)
    return torch.minimum(lower, lobe)


def ring(x: Tensor, y: Tensor) -> Tensor:
    """An annulus from radius 0.5 to 0.98."""
    return (torch.sqrt(x * x + y * y) - 0.74).abs() - 0.24


DISTANCES = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "ring": ring,
}
