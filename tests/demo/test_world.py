"""The renderer and the captions: what training is told is what is drawn."""

import random

import pytest
import torch

from demo import judge, lexicon, world
from demo.render import render
from demo.tokenizers import MAX_TOKENS, clip_tokenizer, t5_tokenizer, words
from demo.world import Picture


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def kept(prompt: str) -> list[str]:
    tokens: list[str] = t5_tokenizer().tokenize(prompt)
    return tokens


def test_the_split_holds_out_about_one_combination_in_seven() -> None:
    rng = random.Random(0)
    held_out = [world.is_held_out(world.sample_shape(rng)) for _ in range(2000)]
    assert 0.11 < sum(held_out) / len(held_out) < 0.19


def test_training_never_draws_a_held_out_combination() -> None:
    rng = random.Random(0)
    assert not any(world.is_held_out(world.sample_training(rng)) for _ in range(2000))


def test_an_object_never_has_the_colour_of_its_background() -> None:
    rng = random.Random(0)
    assert all(p.colour != p.ground for p in (world.sample_shape(rng) for _ in range(2000)))


@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 128), (192, 128), (128, 192), (256, 144)])
def test_the_judge_reads_back_what_the_renderer_drew(width: int, height: int) -> None:
    rng = random.Random(1)
    pictures = [world.sample_shape(rng) for _ in range(30)]
    images = render(pictures, height, width, generator())
    wrong = [p for p, i in zip(pictures, images, strict=True) if not all(judge.read(i).agrees(p).values())]
    assert len(wrong) <= 1


def test_the_same_seed_draws_the_same_picture_and_another_seed_does_not() -> None:
    picture = [Picture("hills", "sun", "purple")]
    one, same = render(picture, 64, 96, generator()), render(picture, 64, 96, generator())
    other = render(picture, 64, 96, torch.Generator().manual_seed(1))
    assert torch.equal(one, same)
    assert (one - other).abs().mean() > 0.01


def test_every_kind_of_picture_renders_at_any_size_within_range() -> None:
    rng = random.Random(2)
    pictures = [
        f(rng) for f in (world.sample_shape, world.sample_hills, world.sample_sea, world.sample_spheres)
    ]
    for height, width in ((64, 256), (256, 64), (80, 112)):
        images = render(pictures, height, width, generator())
        assert images.shape == (4, 3, height, width)
        assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_outlined_pictures_have_ink_and_midnight_ones_are_dark() -> None:
    picture = [Picture("shape", "circle", "white", "yellow")]
    plain, outlined, night = (
        render(picture, 96, 96, generator(), style) for style in ("", "outlined", "midnight")
    )
    assert (outlined.amax(1) < 0.2).float().mean() > (plain.amax(1) < 0.2).float().mean() + 0.02
    assert night.mean() < 0.5 * plain.mean()


def test_every_caption_fits_the_encoders() -> None:
    rng, tokenizer = random.Random(3), clip_tokenizer()
    captions = [world.caption(world.sample_training(rng), rng) for _ in range(500)]
    assert max(len(tokenizer(caption).input_ids) for caption in captions) <= MAX_TOKENS


def test_every_word_of_a_caption_is_known_or_dropped() -> None:
    rng = random.Random(4)
    captions = [world.caption(world.sample_training(rng), rng) for _ in range(500)]
    assert {word for caption in captions for word in kept(caption)} <= set(words())


def test_case_punctuation_and_emoji_do_not_matter() -> None:
    plain = kept("a big yellow star on a blue background")
    assert kept("A BIG, yellow STAR!! 🎉 on a... (blue) background.") == plain


def test_synonyms_mean_the_same() -> None:
    assert kept("a little crimson disc in the centre") == kept("a small red circle in the center")


def test_unknown_words_are_dropped_wherever_they_stand() -> None:
    assert kept("quixotic " * 300 + "red star") == ["red", "star"]
    assert kept("") == kept("🦊 漢字 zebra") == []


def test_every_synonym_folds_into_a_known_word() -> None:
    for word, others in lexicon.SYNONYMS.items():
        assert all(kept(other) == [word] for other in others)
