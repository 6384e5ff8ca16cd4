"""Small words and shapes that every page uses."""

from django import template
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.models import User
from files import storage
from generation.models import Job
from generation.words import about, clock, duration, megabytes
from gpu.models import Worker

register = template.Library()
# Narrow, and no line ends at it.
THIN_SPACE = "\u202f"


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    """An icon of the sprite. It is decoration: its control needs a name of its own."""
    return format_html(
        '<svg class="icon" width="{0}" height="{0}" aria-hidden="true"><use href="{1}#{2}"></use></svg>',
        size,
        static("icons/sprite.svg"),
        name,
    )


@register.filter
def thin(number: int) -> str:
    """418207733 as 418 207 733, in groups by thin spaces."""
    return f"{number:,}".replace(",", THIN_SPACE)


@register.filter
def grouped(number: int) -> str:
    """1284 as 1,284."""
    return f"{number:,}"


@register.filter
def short_id(pk: object) -> str:
    """Both ends of an id: enough to tell two apart."""
    text = str(pk)
    return f"{text[:6]}…{text[-4:]}"


register.filter("seconds", duration)


register.filter("about", about)


register.filter("megabytes", megabytes)


register.filter("clock", clock)


@register.filter
def gigabytes(size: int) -> str:
    """Bytes of memory as 8.4, in units of 1024³ as devices are sold."""
    return f"{size / 1024**3:.1f}" if size >= 0.05 * 1024**3 else "<0.1"


@register.filter
def whole_gigabytes(size: int) -> str:
    return f"{size / 1024**3:.0f}"


@register.filter
def level(taken: float, limit: int) -> str:
    """How a bar looks that is so full: nothing below 80 %, then warn, then full."""
    if taken >= limit:
        return "full"
    return "warn" if taken >= 0.8 * limit else ""


@register.filter
def cause(error: str) -> str:
    """The first sentence of an error."""
    return _split(error)[0]


@register.filter
def remedy(error: str) -> str:
    """What an error says after its first sentence."""
    return _split(error)[1]


def _split(error: str) -> tuple[str, str]:
    first, stop, rest = error.partition(". ")
    return first + stop.strip(), rest


@register.simple_tag
def active_jobs(user: User | AnonymousUser) -> list[Job]:
    """The user's jobs that wait or are drawn, the one being drawn first."""
    if not user.is_authenticated:
        return []
    active = Job.objects.visible_to(user).active()
    return list(active.only("id", "state", "stage", "step", "steps").order_by("-state", "id")[:100])


@register.filter
def short_name(device: str) -> str:
    """RTX 6000 Ada Generation: whose it is everybody knows."""
    return device.removeprefix("NVIDIA ").removeprefix("GeForce ")


@register.filter
def short_device(device: str) -> str:
    """GPU-8f2c1a9b of a GPU's UUID: enough to tell two apart."""
    return "-".join(device.split("-")[:2])


@register.simple_tag
def database_name() -> str:
    return connection.vendor.replace("postgresql", "PostgreSQL").replace("sqlite", "SQLite")


@register.simple_tag
def workers_alive() -> int:
    return Worker.objects.alive().count()


@register.simple_tag
def free_gigabytes() -> int | None:
    free = storage.free_bytes()
    return None if free is None else free // 10**9
