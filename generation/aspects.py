"""The sizes that the page offers: five aspects, in pixels that the model can draw."""

from dataclasses import dataclass
from math import log

from gpu.model_card import ModelCard

RATIOS = {"1:1": 1.0, "3:2": 3 / 2, "16:9": 16 / 9, "2:3": 2 / 3, "9:16": 9 / 16}
# A wrong shape is seen at once, a few pixels more or less are not.
_SHAPE_COUNTS = 4


@dataclass(frozen=True)
class Aspect:
    """A choice of the form, such as 3:2 in 1248 × 832 pixels."""

    label: str
    width: int
    height: int

    @property
    def value(self) -> str:
        return f"{self.width}x{self.height}"


def aspects_of(card: ModelCard) -> list[Aspect]:
    """For each ratio the allowed size nearest to it in shape and to the model's usual one in area."""
    return [Aspect(label, *_nearest(card, ratio)) for label, ratio in RATIOS.items()]


def _nearest(card: ModelCard, ratio: float) -> tuple[int, int]:
    sides = range(card.min_side, card.max_side + 1, card.side_step)
    allowed = ((w, h) for w in sides for h in _near(w / ratio, card) if w * h <= card.max_pixels)
    usual = card.default_side**2

    def distance(size: tuple[int, int]) -> float:
        width, height = size
        return _SHAPE_COUNTS * abs(log(width / height / ratio)) + abs(log(width * height / usual))

    return min(allowed, key=distance)


def _near(side: float, card: ModelCard) -> list[int]:
    """The allowed sides just below and just above ``side``."""
    below = int(side) // card.side_step * card.side_step
    return [near for near in (below, below + card.side_step) if card.min_side <= near <= card.max_side]
