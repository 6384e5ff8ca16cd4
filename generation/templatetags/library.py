"""What the library's pages show of jobs and pictures, which the library itself does not know."""

from typing import Any

from django import template

from generation.models import Image
from loras.models import Lora

register = template.Library()
MOST = 12


@register.simple_tag(takes_context=True)
def pictures_with(context: dict[str, Any], lora: Lora) -> list[Image]:
    """The newest pictures that the user made with it."""
    mine = Image.objects.visible_to(context["user"]).kept()
    return list(mine.filter(job__loras=lora).select_related("job").newest_first()[:MOST])
