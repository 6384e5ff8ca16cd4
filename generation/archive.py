"""Pictures as one ZIP file, made while it is sent: nothing of it is whole in memory or on the disk."""

from collections.abc import Iterable, Iterator

from django.core.files.base import File
from zipstream import ZipStream

from files import storage
from generation import png_metadata
from generation.models import Image
from generation.png_chunks import UnreadablePicture

CHUNK = 256 * 1024
MISSING = "missing.txt"


def stream(images: Iterable[Image], *, recipe: bool = True) -> Iterator[bytes]:
    """The file, piece by piece. PNGs are stored as they are; each is known by its id.

    ``recipe``: without it the pictures tell neither prompt nor settings, and their names no seed. A picture
    that cannot be read is named in ``missing.txt``: what was sent already cannot be taken back.
    """
    archive, missing = ZipStream(), []
    for image in images:
        name = _name(image, recipe)
        try:
            file = storage.open(str(image.file))
        except FileNotFoundError:
            missing.append(name)
            continue
        with file:
            try:
                archive.add(_pieces(file, recipe), name)
            except UnreadablePicture:
                missing.append(name)
            yield from archive.all_files()
    if missing:
        archive.add("These pictures could not be read:\n" + "\n".join(missing) + "\n", MISSING)
    yield from archive.finalize()


def _name(image: Image, recipe: bool) -> str:
    return f"fluxsite-{image.seed}-{image.pk}.png" if recipe else f"fluxsite-{image.pk}.png"


def _pieces(file: "File[bytes]", recipe: bool) -> Iterable[bytes]:
    return file.chunks(CHUNK) if recipe else [png_metadata.without_recipe(file.read())]
