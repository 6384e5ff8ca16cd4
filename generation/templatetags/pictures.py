"""A picture and its links, in words."""

import json
import re
from collections.abc import Iterable
from math import gcd
from typing import Any

from django import template
from django.template import Context
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.models import User
from generation.models import Image, ShareLink
from generation.models.image import FINAL_ENGINE

register = template.Library()
# Sides whose ratio needs larger numbers are told as they are.
LARGEST_TERM = 21


@register.filter
def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@register.filter
def ratio(image: Image) -> str:
    """1152 × 768 as 3:2; nothing where that takes large numbers."""
    part = gcd(image.width, image.height)
    width, height = image.width // part, image.height // part
    return f"{width}:{height}" if max(width, height) <= LARGEST_TERM else ""


@register.filter
def precision(image: Image) -> str:
    """FP4 draft, or BF16 final."""
    engine = image.job.engine
    return f"{engine.upper()} {'final' if engine == FINAL_ENGINE else 'draft'}"


@register.filter
def with_triggers(prompt: str, triggers: Iterable[str]) -> SafeString:
    """The prompt with the trigger words of its LoRAs set off."""
    if not triggers:
        return conditional_escape(prompt)
    either = "|".join(re.escape(word) for word in sorted(triggers, key=len, reverse=True))
    parts = re.split(f"({either})", prompt, flags=re.IGNORECASE)
    looks = ("{}", '<b class="trigger">{}</b>')
    marked = ((format_html(looks[place % 2], part),) for place, part in enumerate(parts))
    return format_html_join("", "{}", marked)


@register.filter
def display_name(user: User) -> str:
    """What strangers are told of somebody; never the email."""
    return user.get_full_name() or user.get_username()


@register.filter
def subject(link: ShareLink) -> str:
    """What a link shows, for its owner."""
    if link.collection:
        return link.collection.name
    return link.image.job.prompt[:80] if link.image else ""


@register.simple_tag(takes_context=True)
def absolute(context: Context, link: ShareLink) -> str:
    """The address to send to somebody."""
    address: str = context["request"].build_absolute_uri(link.get_absolute_url())
    return address
