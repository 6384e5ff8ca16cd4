"""The trained model, drawn by the real FluxPipeline as the site draws it."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from demo import judge, world
from demo.evaluate import Studio, held_out, lightness, score
from demo.render import centre
from demo.tokenizers import MAX_TOKENS

DEMO = Path(__file__).parents[2] / "demo"
COUNT = 60
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(DEMO / "model")


@pytest.fixture(scope="module")
def shares(studio: Studio) -> dict[str, float]:
    """What the model keeps of captions it never saw."""
    pictures = held_out(COUNT)
    images = studio.draw([world.plain_caption(picture) for picture in pictures], 128, 128)
    return score(pictures, images)


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


def dark(image: Tensor) -> float:
    """Share of pixels clearly darker than either colour of the picture."""
    return float((image.amax(dim=0) < 0.45).float().mean())


def test_it_paints_the_background_in_the_named_colour(shares: dict[str, float]) -> None:
    assert shares["background"] >= 0.95


def test_it_paints_the_object_in_the_named_colour(shares: dict[str, float]) -> None:
    assert shares["colour"] >= 0.95


def test_it_puts_the_object_where_the_prompt_says(shares: dict[str, float]) -> None:
    assert shares["place"] >= 0.95


def test_it_draws_the_named_shape(shares: dict[str, float]) -> None:
    assert shares["shape"] >= 0.75


@pytest.mark.parametrize(("width", "height"), [(64, 64), (192, 128), (128, 192), (256, 144)])
def test_places_and_colours_hold_at_other_sizes(studio: Studio, width: int, height: int) -> None:
    pictures = held_out(16, seed=5)
    found = score(pictures, studio.draw([world.plain_caption(p) for p in pictures], width, height))
    assert found["background"] >= 0.8
    assert found["place"] >= 0.8


def test_a_natural_prompt_is_understood(studio: Studio) -> None:
    image = studio.draw(
        ["Please draw a LARGE golden triangle, in the middle, on a navy backdrop!"], 128, 128
    )[0]
    assert judge.read(image) == judge.Reading("blue", "yellow", "center", "triangle")


def test_unknown_words_emoji_nothing_and_300_words_still_draw(studio: Studio) -> None:
    images = studio.draw(
        ["🎉 漢字", "", "zebra " * 300, "a big red ring on a white background" + " zebra" * 300], 64, 64
    )
    assert torch.isfinite(images).all()
    assert judge.read(images[3]).shape == "ring"


def test_unknown_words_do_not_change_the_picture(studio: Studio) -> None:
    plain, wordy = (
        studio.draw([prompt], 64, 64) for prompt in ("a red star", "a lovely RED star, in my kitchen!")
    )
    assert difference(plain, wordy) < 0.01


def test_seeds_draw_different_hills(studio: Studio) -> None:
    one, other = studio.draw(["misty hills under a purple sky"] * 2, 128, 128)
    assert difference(one, other) > 0.01


def test_the_largest_size_of_the_card_draws(studio: Studio) -> None:
    image = studio.draw(["a big yellow star at the left of a blue background"], 256, 256)[0]
    assert judge.read(image).place == "left"


def test_the_outline_adapter_draws_darker_edges_when_its_trigger_is_there(studio: Studio) -> None:
    plain, triggered = (f"{word}a big green square on an orange background" for word in ("", "outlined, "))
    before = studio.draw([plain, triggered], 128, 128)
    studio.use(outline=1.0)
    without, with_trigger = studio.draw([plain, triggered], 128, 128)
    studio.use()
    assert dark(with_trigger) > dark(before[1]) + 0.01
    assert difference(with_trigger, before[1]) > 1.3 * difference(without, before[0])


def test_the_night_adapter_darkens_when_its_trigger_is_there(studio: Studio) -> None:
    plain, triggered = (f"{word}a big yellow circle on a white background" for word in ("", "midnight, "))
    before = studio.draw([plain, triggered], 128, 128)
    studio.use(night=1.0)
    without, with_trigger = studio.draw([plain, triggered], 128, 128)
    studio.use()
    assert lightness(with_trigger) < 0.6 * lightness(before[1])
    assert lightness(without) > 0.8 * lightness(before[0])


def test_both_adapters_work_together_and_leave_no_trace(studio: Studio) -> None:
    prompt = ["outlined, midnight, a big yellow circle on a white background"]
    before = studio.draw(prompt, 128, 128)
    studio.use(outline=0.8, night=1.0)
    both = studio.draw(prompt, 128, 128)
    studio.use()
    assert lightness(both) < 0.7 * lightness(before)
    assert torch.equal(studio.draw(prompt, 128, 128), before)


def test_the_card_says_how_long_a_prompt_may_be() -> None:
    card = json.loads((DEMO / "model" / "fluxsite.json").read_text())
    assert card["max_sequence_length"] == MAX_TOKENS
    assert card["max_pixels"] == card["max_side"] ** 2


def test_every_listed_adapter_is_there() -> None:
    entries = json.loads((DEMO / "loras" / "loras.json").read_text())
    assert [entry["slug"] for entry in entries] == ["outline", "night"]
    assert all((DEMO / "loras" / entry["file"]).is_file() for entry in entries)


def test_model_and_adapters_weigh_less_than_15_mb() -> None:
    files = [path for folder in ("model", "loras") for path in (DEMO / folder).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15_000_000


def test_an_object_at_a_side_stays_on_the_picture() -> None:
    picture = world.Picture("shape", "star", "blue", "yellow", "left", "big")
    across, down = centre(picture, 256, 144)
    assert across < 0.3 * 256
    assert down == 0.5 * 144
