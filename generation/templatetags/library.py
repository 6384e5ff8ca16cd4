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
    images = Image.objects.visible_to(context["user"]).filter(job__loras=lora).select_related("job")
    return list(images.newest_first()[:MOST])
