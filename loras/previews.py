"""A preview that somebody uploads: looked at before it is decoded, and never kept as it came."""

import io
from typing import IO

from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile

MAX_BYTES = 10_000_000
# A PNG of 18 kB may decode to 700 MB; this many take 100 MB at most.
MAX_PIXELS = 25_000_000
LONGEST_SIDE = 1024
FORMATS = ("PNG", "JPEG", "WEBP")


def webp(file: IO[bytes], size: int) -> ContentFile[bytes]:
    """The picture as WebP, its longer side at most 1024 pixels. ``size`` in bytes. Raises ValidationError."""
    import PIL.Image  # a web process needs it here alone

    if size > MAX_BYTES:
        raise ValidationError(f"{size / 1e6:.1f} MB. Use a picture of at most {MAX_BYTES / 1e6:.0f} MB.")
    try:
        with PIL.Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValidationError(
                    f"{opened.width:,} × {opened.height:,} pixels. "
                    f"Use at most {MAX_PIXELS / 1e6:.0f} million in all."
                )
            image = opened.convert("RGB")
    except ValidationError:
        raise
    except Exception as error:  # Pillow raises all kinds for damaged files
        raise ValidationError("This is no picture that can be read. Use PNG, JPEG or WebP.") from error
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return ContentFile(buffer.getvalue())
