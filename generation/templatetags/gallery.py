"""The tiles of the gallery."""

from collections.abc import Iterable
from datetime import date, timedelta
from uuid import UUID

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from generation.gallery_filters import Filters
from generation.models import Image
from generation.templatetags.studio import icon

register = template.Library()
ALT_LETTERS, NAME_LETTERS = 120, 40

# A page has sixty of them: 1.2 ms of a processor's time so, 6.6 ms as a template.
_SHOT = (
    '<li data-bytes="{size}"><a class="shot" href="{url}{query}">'
    '<img src="{url}thumbnail/" width="{width}" height="{height}" alt="{words}" loading="lazy"'
    ' decoding="async"><span class="shot-words" aria-hidden="true"><span>{words}</span>'
    '<b class="badge plate">{engine}</b></span></a>'
    '<input class="ring" type="checkbox" name="image" value="{pk}" aria-label="Select: {name}">{heart}</li>'
)
_HEART = (
    '<button class="heart" type="submit" form="act" formaction="{url}" name="image" value="{pk}"'
    ' aria-pressed="{pressed}" aria-label="Favourite: {name}">{icon}</button>'
)


class Tiles:
    """What all tiles of a page have in common, put together once: a page may have a list for each picture."""

    def __init__(self, filters: Filters) -> None:
        nobody = UUID(int=0)
        self._pages = reverse("generation:image", args=[nobody]).removesuffix(f"{nobody}/")
        self._query = "" if filters.trash else filters.query
        hearts = ("", "") if filters.trash else (_heart("favourite"), _heart("unfavourite"))
        self._shots = [_SHOT.replace("{heart}", heart) for heart in hearts]

    def shot(self, image: Image) -> SafeString:
        return format_html(
            self._shots[image.favourite],
            pk=image.pk,
            url=f"{self._pages}{image.pk}/",
            query=self._query,
            size=image.size,
            width=image.width,
            height=image.height,
            engine=image.job.engine.upper(),
            words=_cut(image.job.prompt, ALT_LETTERS),
            name=_cut(image.job.prompt, NAME_LETTERS),
        )


def _heart(verb: str) -> str:
    """The button that does ``verb``, with the picture's own words still to be filled in."""
    return _HEART.format(
        url=reverse(f"generation:pictures-{verb}"),
        pressed="true" if verb == "unfavourite" else "false",
        icon=icon("heart"),
        pk="{pk}",
        name="{name}",
    )


@register.simple_tag
def tiles(filters: Filters) -> Tiles:
    """Each leads to its picture among those that are shown; in the trash it has no heart."""
    return Tiles(filters)


@register.filter
def shots(tiles: Tiles, images: Iterable[Image]) -> SafeString:
    return mark_safe("".join(map(tiles.shot, images)))  # noqa: S308 (each is safe)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@register.filter
def day_name(day: date) -> str:
    """Today, Yesterday, or the date."""
    today = timezone.localdate()
    if day == today:
        return "Today"
    return "Yesterday" if day == today - timedelta(days=1) else date_format(day, "j F Y")
