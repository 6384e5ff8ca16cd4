"""The scenes of the demo world: layered hills, a light over the sea, shaded spheres."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

from demo import lexicon
from demo.canvas import Canvas, column, mix, plane, rgb
from demo.world import Picture

Sphere: TypeAlias = tuple[float, float, str]

LAYOUTS: dict[str, tuple[Sphere, ...]] = {
    "one": ((0.0, 0.25, ""),),
    "two": ((-0.16, 0.19, "red"), (0.19, 0.13, "cream")),
    "three": ((-0.25, 0.15, "red"), (0.02, 0.11, "cream"), (0.24, 0.17, "teal")),
    "four": ((-0.30, 0.10, "gold"), (-0.08, 0.16, "red"), (0.17, 0.11, "cream"), (0.35, 0.08, "navy")),
    "five": (
        (-0.39, 0.06, "navy"),
        (-0.19, 0.155, "red"),
        (0.05, 0.115, "cream"),
        (0.25, 0.15, "teal"),
        (0.42, 0.055, "gold"),
    ),
}
"""Per count: offset from the middle and radius in shorter sides, and the glaze."""
GLAZES: dict[str, lexicon.Rgb] = {
    "red": (206, 84, 72),
    "cream": (240, 232, 216),
    "teal": (34, 108, 110),
    "navy": (44, 60, 110),
    "gold": (224, 166, 40),
}
_SUN = (255, 236, 176)
_MOON = (246, 244, 234)
_LAYERS = 5


def _lights(pictures: list[Picture]) -> tuple[Tensor, Tensor, Tensor]:
    """Colour (B, 3), radius (B,) and presence (B,) of the sun or moon of each picture."""
    colour = rgb([_SUN if p.subject == "sun" else _MOON for p in pictures])
    radius = torch.tensor([0.105 if p.subject == "sun" else 0.07 for p in pictures])
    return colour, radius, torch.tensor([float(p.subject != "") for p in pictures])


def _sky(canvas: Canvas, zenith: Tensor, horizon: Tensor, level: float) -> None:
    share = (canvas.y / canvas.height / level).clamp(0, 1).unsqueeze(1)
    canvas.fill(mix(column(zenith), column(horizon), share))


def _disc(canvas: Canvas, pictures: list[Picture], x: Tensor, y: Tensor) -> None:
    """A sun or moon with a glow; it hides the stars of the night palette."""
    colour, radius, present = _lights(pictures)
    away = torch.hypot(canvas.x - plane(x), canvas.y - plane(y))
    glow = 0.55 * torch.exp(-((away / 0.24) ** 2)) * plane(present)
    canvas.blend(column(colour), glow)
    canvas.paint(away - plane(radius) + (1 - plane(present)) * 9, column(colour))


def draw_hills(canvas: Canvas, pictures: list[Picture], generator: torch.Generator) -> None:
    """Five ridges, paler with distance, each fading into mist at its foot."""
    zenith, horizon, far, near = (rgb([lexicon.SKIES[p.ground][i] for p in pictures]) for i in range(4))
    noise = torch.randn(len(pictures), 2 + 3 * _LAYERS, generator=generator).clamp(-1.6, 1.6)
    _sky(canvas, zenith, horizon, 0.55)
    _disc(
        canvas,
        pictures,
        (0.5 + 0.10 * noise[:, 0]) * canvas.width,
        (0.25 + 0.015 * noise[:, 1]) * canvas.height,
    )
    for layer in range(_LAYERS):
        share = layer / (_LAYERS - 1)
        ridge = _ridge(canvas, layer, noise[:, 2 + 3 * layer : 5 + 3 * layer])
        body, mist = mix(far, near, share**0.8), mix(far, horizon, 0.35)
        depth = ((canvas.y - ridge) / (0.3 * canvas.height)).clamp(0, 1)
        fade = (depth * 0.55 * (1 - share)).unsqueeze(1)
        canvas.paint(ridge - canvas.y, mix(column(body), column(mist), fade))


def _ridge(canvas: Canvas, layer: int, noise: Tensor) -> Tensor:
    """Height (B, 1, W) of a ridge in shorter sides: fixed waves whose phases the seed shifts a little."""
    base = (0.42 + 0.125 * layer) * canvas.height
    out = torch.full((noise.shape[0], 1, canvas.x.shape[2]), base)
    middle = canvas.x - canvas.width / 2
    for wave, (length, height) in enumerate(((1.15, 0.042), (0.52, 0.020), (0.27, 0.007))):
        phase = 2.4 * layer + 1.7 * wave + 0.9 * layer * wave + 0.5 * plane(noise[:, wave])
        out = out + height * torch.sin(2 * math.pi * middle / length + phase)
    return out


def draw_sea(canvas: Canvas, pictures: list[Picture], generator: torch.Generator) -> None:
    """A disc over the horizon, and its light broken on the water below."""
    zenith, horizon, far, near = (rgb([lexicon.SEAS[p.ground][i] for p in pictures]) for i in range(4))
    noise = torch.randn(len(pictures), 3, generator=generator).clamp(-1.6, 1.6)
    x, y = (0.5 + 0.09 * noise[:, 0]) * canvas.width, (0.27 + 0.02 * noise[:, 1]) * canvas.height
    _sky(canvas, zenith, horizon, 0.56)
    _disc(canvas, pictures, x, y)
    level = 0.56 * canvas.height
    depth = ((canvas.y - level) / (canvas.height - level)).clamp(0, 1)
    water = mix(column(far), column(near), depth.unsqueeze(1))
    canvas.paint(level - canvas.y + plane(torch.zeros(len(pictures))), water)
    _glitter(canvas, pictures, plane(x), depth, 0.3 * plane(noise[:, 2]))


def _glitter(canvas: Canvas, pictures: list[Picture], x: Tensor, depth: Tensor, phase: Tensor) -> None:
    """Bars of light below the disc that widen towards the viewer."""
    colour = _lights(pictures)[0]
    rows = torch.sin(26 * torch.sqrt(depth + 0.02) + phase)
    sway = 0.035 * torch.sin(11 * torch.sqrt(depth + 0.02) + 1.0)
    width = 0.05 + 0.12 * depth
    column_of_light = torch.exp(-(((canvas.x - x - sway) / width) ** 2))
    share = column_of_light * torch.sigmoid(5 * rows) * (depth > 0)
    canvas.blend(column(colour), 0.85 * share)


def draw_spheres(canvas: Canvas, pictures: list[Picture], generator: torch.Generator) -> None:
    """Shaded spheres that stand on a pastel floor, lit from the upper left."""
    floor = rgb([lexicon.GROUNDS[p.ground] for p in pictures])
    rise = (canvas.y / canvas.height).unsqueeze(1)
    canvas.fill(mix(mix(column(floor), torch.ones(1), 0.55), column(floor) * 0.90, rise**1.2))
    for count in {p.subject for p in pictures}:
        index = [i for i, p in enumerate(pictures) if p.subject == count]
        part = Canvas(len(index), canvas.image.shape[2], canvas.image.shape[3], canvas.outlined)
        part.image = canvas.image[index]
        _place_spheres(part, [pictures[i] for i in index], LAYOUTS[count], generator)
        canvas.image[index], canvas.open[index] = part.image, part.open


def _place_spheres(
    canvas: Canvas, pictures: list[Picture], layout: tuple[Sphere, ...], generator: torch.Generator
) -> None:
    noise = torch.randn(len(pictures), len(layout), 2, generator=generator).clamp(-1.6, 1.6)
    foot = (0.62 if len(layout) > 1 else 0.5) * canvas.height + max(radius for _, radius, _ in layout) * 0.75
    spheres = []
    for i, (offset, size, glaze) in enumerate(layout):
        radius = size * (1 + 0.05 * noise[:, i, 0])
        x = canvas.width / 2 + offset + 0.012 * noise[:, i, 1]
        spheres.append((plane(x), plane(radius), _glazes(pictures, glaze)))
    for x, radius, _ in spheres:
        _shadow(canvas, x, radius, foot)
    for x, radius, colour in spheres:
        _sphere(canvas, x, foot - radius, radius, colour)


def _glazes(pictures: list[Picture], glaze: str) -> Tensor:
    return rgb([GLAZES[glaze] if glaze else lexicon.COLOURS[p.colour] for p in pictures])


def _shadow(canvas: Canvas, x: Tensor, radius: Tensor, foot: float) -> None:
    away = ((canvas.x - x - 0.12 * radius) / (1.05 * radius)) ** 2 + (
        (canvas.y - foot) / (0.22 * radius)
    ) ** 2
    canvas.blend(torch.full((1, 3, 1, 1), 0.16), 0.45 * torch.exp(-away))


def _sphere(canvas: Canvas, x: Tensor, y: Tensor, radius: Tensor, colour: Tensor) -> None:
    across, down = (canvas.x - x) / radius, (canvas.y - y) / radius
    squared = across * across + down * down
    out = torch.sqrt((1 - squared).clamp_min(0))
    light = (-0.45 * across - 0.6 * down + 0.66 * out).clamp(0, 1).unsqueeze(1)
    body = column(colour) * (0.34 + 0.70 * light)
    shine = torch.exp(-((across + 0.34) ** 2 + (down + 0.42) ** 2) / 0.035).unsqueeze(1)
    canvas.paint((torch.sqrt(squared) - 1) * radius, mix(body, torch.ones(1), 0.75 * shine))
