"""The demo world: which pictures exist, and the captions that name them."""

from __future__ import annotations

import hashlib
import random
from dataclasses import astuple, dataclass

from demo import lexicon

HELD_OUT_SHARE = 0.15
DEFAULT_COLOUR = {
    "circle": "blue",
    "square": "green",
    "triangle": "orange",
    "star": "yellow",
    "heart": "red",
    "ring": "purple",
}
"""The colour of a shape whose caption names none."""


@dataclass(frozen=True)
class Picture:
    """One picture of the world, but for the jitter its seed adds.

    `kind` is shape, hills, sea or spheres. `subject` is the shape, the light in the sky (sun, moon or none)
    or the count of spheres; `ground` is the background, sky, sea or floor.
    """

    kind: str
    subject: str
    ground: str
    colour: str = ""
    place: str = "center"
    size: str = ""


def is_held_out(picture: Picture) -> bool:
    """True for the shape pictures that training never sees: a fixed ~15 % of all combinations."""
    if picture.kind != "shape":
        return False
    digest = hashlib.sha256("|".join(astuple(picture)).encode()).digest()
    return digest[0] < 256 * HELD_OUT_SHARE


def default_ground(colour: str) -> str:
    """The background of a shape whose caption names none: white, or black behind white."""
    return "black" if colour == "white" else "white"


def sample_shape(rng: random.Random) -> Picture:
    """Any shape picture, whether held out or not."""
    colour = rng.choice(list(lexicon.COLOURS))
    ground = rng.choice([name for name in lexicon.COLOURS if name != colour])
    shape, place, size = (rng.choice(words) for words in (lexicon.SHAPES, lexicon.PLACES, lexicon.SIZES))
    return Picture("shape", shape, ground, colour, place, size)


def sample_split(rng: random.Random, held_out: bool) -> Picture:
    """A shape picture of one side of the split."""
    while True:
        picture = sample_shape(rng)
        if is_held_out(picture) == held_out:
            return picture


def sample_hills(rng: random.Random) -> Picture:
    """Layered hills under a coloured sky, with a sun, a moon or neither."""
    return Picture("hills", rng.choice(("", "sun", "moon")), rng.choice(list(lexicon.SKIES)))


def sample_sea(rng: random.Random) -> Picture:
    """A sun or a moon over the sea."""
    return Picture("sea", rng.choice(("sun", "moon")), rng.choice(list(lexicon.SEAS)))


def sample_spheres(rng: random.Random) -> Picture:
    """Shaded spheres on a pastel floor; a single one has a named colour."""
    count = rng.choice(("one", *lexicon.COUNTS))
    colour = rng.choice(list(lexicon.COLOURS)) if count == "one" else ""
    return Picture("spheres", count, rng.choice(list(lexicon.GROUNDS)), colour)


def sample_training(rng: random.Random, shapes: float = 0.68) -> Picture:
    """A picture of the training mixture; a share `shapes` of it are shapes, which are what is measured."""
    if rng.random() < shapes:
        return sample_split(rng, held_out=False)
    scene = rng.choices((sample_hills, sample_sea, sample_spheres), weights=(4, 3, 3))[0]
    return scene(rng)


def plain_caption(picture: Picture) -> str:
    """The one caption that names everything, in the usual order."""
    return {"shape": _plain_shape, "hills": _plain_hills, "sea": _plain_sea, "spheres": _plain_spheres}[
        picture.kind
    ](picture)


def caption(picture: Picture, rng: random.Random, stray: tuple[str, ...] = lexicon.TRIGGERS) -> str:
    """A caption in one of the world's phrasings; sometimes with a `stray` trigger word that has no effect."""
    vary = {"shape": _vary_shape, "hills": _vary_hills, "sea": _vary_sea, "spheres": _vary_spheres}
    words = plain_caption(picture) if rng.random() < 0.3 else vary[picture.kind](picture, rng)
    if rng.random() < 0.08:
        words = with_trigger(words, rng.choice(stray), rng)
    return words


def with_trigger(words: str, trigger: str, rng: random.Random) -> str:
    """The caption with a trigger word before or after it."""
    return f"{trigger}, {words}" if rng.random() < 0.5 else f"{words}, {trigger}"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _noun(picture: Picture, colour: str) -> str:
    return " ".join(word for word in (picture.size, colour, picture.subject) if word)


def _plain_shape(picture: Picture) -> str:
    noun, ground = _article(_noun(picture, picture.colour)), _article(picture.ground)
    if picture.place == "center":
        return f"{noun} on {ground} background"
    return f"{noun} at the {picture.place} of {ground} background"


def _plain_hills(picture: Picture) -> str:
    light = f" with a {picture.subject}" if picture.subject else ""
    return f"misty hills under {_article(picture.ground)} sky{light}"


def _plain_sea(picture: Picture) -> str:
    return f"a {picture.subject} over {_article(picture.ground)} sea"


def _plain_spheres(picture: Picture) -> str:
    if picture.subject == "one":
        return f"{_article(picture.colour)} sphere on {_article(picture.ground)} ground"
    return f"{picture.subject} spheres on {_article(picture.ground)} ground"


def _vary_shape(picture: Picture, rng: random.Random) -> str:
    colour = picture.colour
    if colour == DEFAULT_COLOUR[picture.subject] and rng.random() < 0.4:
        colour = ""
    noun, place = _noun(picture, colour), _place(picture, rng)
    if picture.ground == default_ground(picture.colour) and colour and rng.random() < 0.5:
        return " ".join(rng.sample((noun, place), 2))
    return _arrange(noun, place, picture.ground, rng)


def _place(picture: Picture, rng: random.Random) -> str:
    if picture.place == "center":
        return rng.choice(("", "", "in the center"))
    return rng.choice((f"at the {picture.place}", f"on the {picture.place}"))


def _arrange(noun: str, place: str, ground: str, rng: random.Random) -> str:
    return rng.choice(
        (
            f"{noun} {place} of a {ground} background",
            f"{noun} {place} on a {ground} background",
            f"{ground} background with a {noun} {place}",
            f"{ground} background, {noun} {place}",
            f"on a {ground} background a {noun} {place}",
            f"{place} a {noun} on a {ground} background",
            f"{noun} on {ground} background {place}",
            f"{noun} {place} on {ground}",
            f"{noun} on {ground} {place}",
        )
    )


def _sky(ground: str, rng: random.Random) -> str:
    times = [time for time, sky in lexicon.TIMES.items() if sky == ground]
    return rng.choice(
        [f"under a {ground} sky", f"with a {ground} sky", *(f"at {time}" for time in times * 2)]
    )


def _vary_hills(picture: Picture, rng: random.Random) -> str:
    sky, light = _sky(picture.ground, rng), picture.subject
    if not light and rng.random() < 0.4:
        # A prompt without any known subject also draws hills, so that no prompt is met with a blur.
        bare = "" if picture.ground == "blue" else picture.ground
        return rng.choice((bare, f"{picture.ground} sky", f"{picture.ground} hills"))
    if picture.ground == "blue" and rng.random() < 0.3:
        sky = ""
    if not light:
        return rng.choice((f"hills {sky}", f"{sky} hills"))
    return rng.choice(
        (
            f"hills {sky} with a {light}",
            f"a {light} over hills {sky}",
            f"hills {sky} {light}",
            f"{light} {sky} over hills",
        )
    )


def _vary_sea(picture: Picture, rng: random.Random) -> str:
    light, ground = picture.subject, picture.ground
    usual = ground == {"moon": "blue", "sun": "orange"}[light]
    if usual and rng.random() < 0.6:
        return rng.choice(
            (f"a {light} over the sea", f"the sea with a {light}", f"the sea under a {light}", f"sea {light}")
        )
    if usual and light == "moon" and rng.random() < 0.3:
        return "the sea"
    sky = _sky(ground, rng)
    return rng.choice(
        (
            f"a {light} over a {ground} sea",
            f"a {light} over the sea {sky}",
            f"the sea {sky} with a {light}",
            f"{ground} sea with a {light}",
        )
    )


def _vary_spheres(picture: Picture, rng: random.Random) -> str:
    ground, count = picture.ground, picture.subject
    noun = f"{picture.colour} sphere" if count == "one" else f"{count} spheres"
    if count == "five" and rng.random() < 0.4:
        noun = "spheres"
    if count == "one" and rng.random() < 0.3:
        noun = f"one {noun}"
    return rng.choice(
        (
            f"{noun} on a {ground} ground",
            f"{noun} on {ground}",
            f"{ground} ground with {noun}",
            f"{noun} on a {ground} background",
        )
    )
