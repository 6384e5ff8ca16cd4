"""The sizes that the form offers."""

import pytest

from generation.aspects import RATIOS, aspects_of
from gpu.model_card import ModelCard

FLUX = ModelCard()
SMALL = ModelCard(min_side=64, max_side=256, max_pixels=65_536, default_side=128)
CARDS = pytest.mark.parametrize("card", [FLUX, SMALL, ModelCard(default_side=2048)])


@CARDS
def test_every_size_fits_the_model(card: ModelCard) -> None:
    for aspect in aspects_of(card):
        for side in (aspect.width, aspect.height):
            assert card.min_side <= side <= card.max_side
            assert side % card.side_step == 0
        assert aspect.width * aspect.height <= card.max_pixels


@CARDS
def test_the_square_is_the_usual_size(card: ModelCard) -> None:
    square = aspects_of(card)[0]
    assert (square.label, square.width, square.height) == ("1:1", card.default_side, card.default_side)


def test_shapes_are_near_to_what_they_are_called() -> None:
    for aspect in aspects_of(FLUX):
        assert aspect.width / aspect.height == pytest.approx(RATIOS[aspect.label], rel=0.02)


def test_areas_are_near_to_the_usual_one() -> None:
    for aspect in aspects_of(FLUX):
        assert aspect.width * aspect.height == pytest.approx(1024**2, rel=0.05)


def test_known_sizes() -> None:
    assert [aspect.value for aspect in aspects_of(FLUX)] == [
        "1024x1024", "1248x832", "1360x768", "832x1248", "768x1360",
    ]  # fmt: skip
    assert [aspect.value for aspect in aspects_of(SMALL)] == [
        "128x128", "144x96", "176x96", "96x144", "96x176",
    ]  # fmt: skip
