"""The words the demo model knows, and the colours they stand for."""

from __future__ import annotations

from typing import TypeAlias

Rgb: TypeAlias = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 44, 48),
    "orange": (250, 132, 30),
    "yellow": (255, 210, 60),
    "green": (44, 160, 76),
    "teal": (32, 178, 176),
    "blue": (40, 78, 205),
    "purple": (122, 56, 184),
    "pink": (250, 120, 178),
    "white": (246, 246, 242),
    "black": (16, 17, 22),
    "grey": (134, 138, 146),
}
"""Objects and backgrounds share one palette (sRGB, 0..255)."""

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring")
PLACES = ("center", "left", "right", "top", "bottom")
SIZES = ("big", "", "small")
COUNTS = ("one", "two", "three", "four", "five")
GROUNDS: dict[str, Rgb] = {
    "mint": (150, 212, 190),
    "pink": (238, 170, 168),
    "peach": (250, 196, 160),
    "lavender": (190, 176, 226),
    "cream": (240, 230, 208),
    "blue": (150, 190, 228),
    "grey": (186, 188, 194),
}
"""Pastel floors under shaded spheres (sRGB, 0..255)."""

SKIES: dict[str, tuple[Rgb, Rgb, Rgb, Rgb]] = {
    "purple": ((62, 42, 104), (236, 158, 178), (186, 138, 160), (22, 16, 40)),
    "orange": ((122, 50, 70), (255, 184, 98), (216, 138, 90), (32, 14, 22)),
    "teal": ((22, 86, 98), (164, 220, 210), (146, 194, 178), (6, 32, 32)),
    "blue": ((124, 164, 206), (234, 240, 246), (168, 190, 214), (16, 44, 70)),
    "pink": ((238, 158, 180), (255, 228, 214), (222, 162, 172), (90, 44, 70)),
    "red": ((58, 16, 26), (214, 84, 62), (162, 60, 54), (24, 8, 12)),
    "green": ((150, 200, 160), (244, 242, 208), (166, 198, 140), (28, 58, 30)),
    "yellow": ((232, 180, 90), (255, 242, 196), (226, 186, 116), (88, 56, 20)),
}
"""Per sky colour: zenith, horizon, farthest ridge, nearest ridge (sRGB, 0..255)."""

SEAS: dict[str, tuple[Rgb, Rgb, Rgb, Rgb]] = {
    "blue": ((10, 18, 50), (96, 122, 176), (58, 84, 138), (8, 16, 42)),
    "purple": ((48, 32, 88), (214, 142, 178), (134, 92, 146), (30, 20, 58)),
    "orange": ((104, 70, 130), (255, 190, 120), (198, 128, 118), (58, 40, 88)),
    "teal": ((12, 60, 70), (140, 206, 200), (70, 148, 146), (6, 38, 44)),
    "pink": ((206, 132, 174), (255, 220, 212), (222, 156, 172), (122, 74, 116)),
    "red": ((54, 14, 26), (226, 98, 70), (140, 50, 52), (28, 8, 16)),
}
"""Per sea colour: zenith, horizon sky, far water, near water (sRGB, 0..255)."""

TIMES = {"dusk": "purple", "sunset": "orange", "dawn": "pink"}
"""Times of day are other names for a sky."""

TRIGGERS = ("outlined", "midnight")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet", "ruby"),
    "yellow": ("gold", "golden"),
    "green": ("emerald",),
    "teal": ("cyan", "turquoise", "aqua"),
    "blue": ("navy", "azure", "cobalt"),
    "purple": ("violet",),
    "pink": ("magenta", "rose"),
    "grey": ("gray", "silver"),
    "circle": ("disc", "disk", "dot", "circles", "round"),
    "square": ("box", "squares"),
    "triangle": ("triangles",),
    "star": ("stars",),
    "heart": ("hearts",),
    "ring": ("rings", "donut", "doughnut", "hoop"),
    "center": ("centre", "middle", "centered", "centred", "central"),
    "left": ("lefthand",),
    "right": ("righthand",),
    "top": ("upper",),
    "bottom": ("lower",),
    "big": ("large", "huge", "giant", "great", "enormous"),
    "small": ("little", "tiny", "mini"),
    "background": ("backdrop", "backgrounds", "bg", "canvas", "wall"),
    "hills": ("hill", "mountain", "mountains", "ridge", "ridges", "landscape", "valley", "peaks"),
    "sky": ("skies",),
    "sun": ("sunlight", "sunny"),
    "moon": ("moonlight", "moonlit", "moonrise"),
    "sea": ("ocean", "water", "lake", "waves", "seaside"),
    "sphere": ("ball", "orb", "marble", "globe"),
    "spheres": ("balls", "orbs", "marbles", "globes"),
    "ground": ("floor", "table", "surface"),
    "sunset": ("sundown", "evening"),
    "dawn": ("sunrise", "morning"),
    "dusk": ("twilight",),
    "cream": ("ivory", "beige"),
    "lavender": ("lilac",),
    "one": ("single",),
    "outlined": ("outline",),
}
"""Each known word, with the words the tokenizers turn into it."""

PLAIN_WORDS = ("on", "over", "under", "with", "is")
"""Small words that carry the grammar; every other small word is dropped."""


def vocabulary() -> list[str]:
    """All words the model sees, in a fixed order."""
    groups = (
        COLOURS,
        SHAPES,
        PLACES,
        SIZES,
        COUNTS,
        GROUNDS,
        SKIES,
        SEAS,
        TIMES,
        TRIGGERS,
        PLAIN_WORDS,
        SYNONYMS,
    )
    return list(dict.fromkeys(word for group in groups for word in group if word))
