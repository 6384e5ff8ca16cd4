"""Looking at pictures: which colour is where."""

import io

import PIL.Image

RGB = tuple[float, float, float]

COLOURS: dict[str, RGB] = {
    "yellow": (240, 205, 50),
    "blue": (40, 70, 200),
    "red": (220, 50, 50),
    "white": (240, 240, 240),
    "black": (15, 15, 15),
    "green": (50, 160, 80),
}


def opened(png: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(png)).convert("RGB")


def pixels(png: bytes) -> bytes:
    """What is to be seen, without what the file says of it."""
    return opened(png).tobytes()


def mean(image: PIL.Image.Image, left: float, top: float, right: float, bottom: float) -> RGB:
    """The mean colour of a part of the picture; the edges are shares of its sides, 0 to 1."""
    width, height = image.size
    box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    pixel = image.crop(box).resize((1, 1), PIL.Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return (float(pixel[0]), float(pixel[1]), float(pixel[2]))


def nearest(colour: RGB) -> str:
    """The name of the colour of ``COLOURS`` that is nearest."""

    def distance(name: str) -> float:
        return sum((a - b) ** 2 for a, b in zip(colour, COLOURS[name], strict=True))

    return min(COLOURS, key=distance)
