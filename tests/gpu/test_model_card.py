"""What is known of a model without loading it."""

import json
from pathlib import Path

import pytest

from gpu.model_card import ModelCard


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model_index.json").write_text("{}")
    return tmp_path


def test_a_hub_id_has_the_limits_of_schnell() -> None:
    card = ModelCard.of("black-forest-labs/FLUX.1-schnell")
    assert (card.name, card.demo, card.max_sequence_length) == ("FLUX.1-schnell", False, 256)
    assert (card.min_side, card.max_side, card.default_side) == (256, 2048, 1024)


def test_a_directory_without_a_card_has_the_limits_of_schnell(model: Path) -> None:
    assert ModelCard.of(str(model)).max_side == 2048


def test_a_directory_says_its_own_limits(model: Path) -> None:
    (model / "fluxsite.json").write_text(json.dumps({"name": "tiny", "min_side": 64, "max_side": 256}))
    card = ModelCard.of(str(model))
    assert (card.name, card.sides) == ("tiny", "a multiple of 16 from 64 to 256")


@pytest.mark.parametrize("content", ["not json", '{"nmae": "typo"}'])
def test_a_card_that_cannot_be_read_is_an_error(model: Path, content: str) -> None:
    (model / "fluxsite.json").write_text(content)
    with pytest.raises(ValueError, match=r"fluxsite\.json cannot be read"):
        ModelCard.of(str(model))


def test_a_directory_that_holds_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model_index\.json"):
        ModelCard.of(str(tmp_path))
