"""Draw pictures of the demo world: batched, anti-aliased, at any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from demo import lexicon, scenes
from demo.canvas import Canvas, column, mix, plane, rgb
from demo.forms import DISTANCES
from demo.night import at_night
from demo.world import Picture

RADIUS = {"big": 0.31, "": 0.235, "small": 0.15}
"""Radius of a shape in shorter sides."""
_WHERE = {
    "center": (0.5, 0.5),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
}
_MARGIN = 0.03


def render(
    pictures: Sequence[Picture], height: int, width: int, generator: torch.Generator, style: str = ""
) -> Tensor:
    """Pictures as (B, 3, height, width) in 0..1; `style` is "", "outlined" or "midnight"."""
    out = torch.empty(len(pictures), 3, height, width)
    for kind in sorted({picture.kind for picture in pictures}):
        index = [i for i, picture in enumerate(pictures) if picture.kind == kind]
        canvas = Canvas(len(index), height, width, outlined=style == "outlined")
        _DRAW[kind](canvas, [pictures[i] for i in index], generator)
        out[index] = at_night(canvas) if style == "midnight" else canvas.image
    return out.clamp(0, 1)


def centre(picture: Picture, width: float, height: float) -> tuple[float, float]:
    """Where a shape's centre lies on a picture of `width` × `height`, in the same units."""
    reach = (RADIUS[picture.size] + _MARGIN) * min(width, height)
    return tuple(  # type: ignore[return-value]
        0.5 * side
        if share == 0.5
        else (max(0.25 * side, reach) if share == 0.0 else side - max(0.25 * side, reach))
        for share, side in zip(_WHERE[picture.place], (width, height), strict=True)
    )


def shape_distance(picture: Picture, height: int, width: int) -> Tensor:
    """Signed distance (height, width) in shorter sides of a shape without jitter."""
    canvas = Canvas(1, height, width)
    x, y = centre(picture, canvas.width, canvas.height)
    radius = RADIUS[picture.size]
    return (DISTANCES[picture.subject]((canvas.x - x) / radius, (canvas.y - y) / radius) * radius)[0]


def _draw_shapes(canvas: Canvas, pictures: list[Picture], generator: torch.Generator) -> None:
    _background(canvas, pictures, generator)
    colour = column(rgb([lexicon.COLOURS[p.colour] for p in pictures]))
    ink = rgb([(236, 236, 232) if p.ground == "black" else (14, 14, 18) for p in pictures])
    canvas.paint(_jittered(canvas, pictures, generator), colour, ink)


def _background(canvas: Canvas, pictures: list[Picture], generator: torch.Generator) -> None:
    """The named colour, with a faint slope of light that differs between seeds."""
    base = column(rgb([lexicon.COLOURS[p.ground] for p in pictures]))
    slope = torch.randn(len(pictures), 2, generator=generator).clamp(-1.5, 1.5) * 0.035
    light = plane(slope[:, 0]) * (canvas.x / canvas.width - 0.5) + plane(slope[:, 1]) * (
        canvas.y / canvas.height - 0.5
    )
    canvas.fill(base + light.unsqueeze(1))


def _jittered(canvas: Canvas, pictures: list[Picture], generator: torch.Generator) -> Tensor:
    """Signed distances (B, H, W) in shorter sides, with place, size and turn jittered a little."""
    count = len(pictures)
    noise = torch.randn(count, 4, generator=generator).clamp(-1.6, 1.6)
    radius = torch.tensor([RADIUS[p.size] for p in pictures]) * (1 + 0.04 * noise[:, 0])
    middle = torch.tensor([centre(p, canvas.width, canvas.height) for p in pictures]) + 0.012 * noise[:, 1:3]
    turn = 0.07 * noise[:, 3]
    x, y = (canvas.x - plane(middle[:, 0])) / plane(radius), (canvas.y - plane(middle[:, 1])) / plane(radius)
    cos, sin = plane(torch.cos(turn)), plane(torch.sin(turn))
    x, y = x * cos + y * sin, y * cos - x * sin
    out = torch.empty(count, *x.shape[1:])
    for shape in {p.subject for p in pictures}:
        index = [i for i, p in enumerate(pictures) if p.subject == shape]
        out[index] = DISTANCES[shape](x[index], y[index])
    return out * plane(radius)


_DRAW = {
    "shape": _draw_shapes,
    "hills": scenes.draw_hills,
    "sea": scenes.draw_sea,
    "spheres": scenes.draw_spheres,
}

__all__ = ["RADIUS", "centre", "mix", "render", "shape_distance"]
