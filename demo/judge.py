"""Read a drawn shape picture without knowing its caption: colours, place and shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from demo import lexicon
from demo.canvas import rgb
from demo.forms import DISTANCES
from demo.world import Picture

_GRID = 48
_OFF_CENTRE = 0.08
_TURNS = (-0.1, -0.05, 0.0, 0.05, 0.1)


@dataclass(frozen=True)
class Reading:
    """What one picture shows."""

    ground: str
    colour: str
    place: str
    shape: str

    def agrees(self, picture: Picture) -> dict[str, bool]:
        """Which of the caption's claims the picture keeps."""
        return {
            "background": self.ground == picture.ground,
            "colour": self.colour == picture.colour,
            "place": self.place == picture.place,
            "shape": self.shape == picture.subject,
        }


def read(image: Tensor) -> Reading:
    """Read a picture (3, H, W) in 0..1."""
    ground = _frame_colour(image)
    away = (image - ground.view(3, 1, 1)).square().sum(0).sqrt()
    mask = _without_specks(away > 0.5 * torch.quantile(away, 0.99))
    inside = image[:, away > 0.8 * torch.quantile(away, 0.99)]
    top, bottom, left, right = _bounds(mask)
    return Reading(
        ground=nearest_colour(ground),
        colour=nearest_colour(inside.median(dim=1).values),
        place=_place((left + right) / 2 / image.shape[2], (top + bottom) / 2 / image.shape[1]),
        shape=_shape(mask[top:bottom, left:right]),
    )


def nearest_colour(colour: Tensor) -> str:
    """The palette's name for a colour (3,) in 0..1."""
    palette = rgb(list(lexicon.COLOURS.values()))
    return list(lexicon.COLOURS)[int((palette - colour).square().sum(1).argmin())]


def _frame_colour(image: Tensor) -> Tensor:
    edge = max(min(image.shape[1:]) // 40, 1)
    sides = (image[:, :edge], image[:, -edge:], image[:, :, :edge], image[:, :, -edge:])
    return torch.cat([side.flatten(1) for side in sides], dim=1).median(dim=1).values


def _without_specks(mask: Tensor) -> Tensor:
    """The mask (H, W) without pixels that have fewer than two neighbours in it."""
    around = F.avg_pool2d(mask[None].float(), 3, stride=1, padding=1)[0] * 9
    return mask & (around > 2.5)


def _bounds(mask: Tensor) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the mask, or of everything when it is empty."""
    rows, columns = (torch.nonzero(mask.any(axis)).flatten() for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 0, mask.shape[0], 0, mask.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _place(across: float, down: float) -> str:
    u, v = across - 0.5, down - 0.5
    if max(abs(u), abs(v)) < _OFF_CENTRE:
        return "center"
    if abs(u) >= abs(v):
        return "left" if u < 0 else "right"
    return "top" if v < 0 else "bottom"


def _shape(mask: Tensor) -> str:
    """The shape whose outline, fitted to the same box and turned a little, overlaps best."""
    drawn = F.interpolate(mask[None, None].float(), (_GRID, _GRID), mode="area")[0, 0] > 0.5
    return max(
        lexicon.SHAPES, key=lambda shape: max(_overlap(drawn, _template(shape, turn)) for turn in _TURNS)
    )


def _overlap(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum().clamp_min(1))


@cache
def _template(shape: str, turn: float) -> Tensor:
    """A shape's mask (48, 48), turned by `turn` radians and filling the grid."""
    axis = torch.linspace(-1.4, 1.4, 400)
    x, y = axis.view(1, -1), axis.view(-1, 1)
    mask = (
        DISTANCES[shape](x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)) < 0
    )
    top, bottom, left, right = _bounds(mask)
    return (
        F.interpolate(mask[None, None, top:bottom, left:right].float(), (_GRID, _GRID), mode="area")[0, 0]
        > 0.5
    )
