"""What is cleaned away when: the defaults, then ``FLUXSITE_CLEANUP``, then the administrators' rules."""

import re
from dataclasses import dataclass

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from operations.models import Kind, Rule


@dataclass(frozen=True)
class Limits:
    """Delete what is older than ``days``, and the oldest while all of it has more than ``megabytes``."""

    on: bool = True
    days: int | None = None
    megabytes: int | None = None

    def __str__(self) -> str:
        parts = [f"{self.days} day{'' if self.days == 1 else 's'}"] if self.days is not None else []
        parts += [f"{self.megabytes:,} MB"] if self.megabytes is not None else []
        return " or ".join(parts) if self.on else "off"


DEFAULTS: dict[Kind, Limits] = {
    Kind.TRASH: Limits(days=30),
    Kind.PICTURES: Limits(on=False, days=365),
    Kind.UPLOADS: Limits(days=1),
    Kind.TEMPORARY: Limits(days=1),
    Kind.ORPHANS: Limits(days=1),
    Kind.QUARANTINE: Limits(days=30),
    Kind.JOBS: Limits(on=False, days=365),
    Kind.LOGS: Limits(days=30, megabytes=500),
    Kind.TOKENS: Limits(days=30),
    Kind.SESSIONS: Limits(days=0),
    Kind.SHARES: Limits(days=30),
    Kind.INVITATIONS: Limits(days=30),
}
_PART = re.compile(r"(\w+)=(?:(off)|(?:(\d+)d)?/?(?:(\d+)MB)?)")


def of_settings(text: str) -> dict[Kind, Limits]:
    """The defaults as ``text`` changes them: ``trash=30d,logs=14d/200MB,pictures=off``.

    Raises ImproperlyConfigured with a sentence.
    """
    limits = dict(DEFAULTS)
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _PART.fullmatch(part)
        if found is None or found[1] not in Kind.values or not any(found.groups()[1:]):
            raise ImproperlyConfigured(
                f"FLUXSITE_CLEANUP: “{part}” is none of its parts. They are like trash=30d, logs=14d/200MB, "
                f"pictures=off; for {', '.join(Kind.values)}."
            )
        _, off, days, megabytes = found.groups()
        limits[Kind(found[1])] = Limits(not off, *(int(n) if n else None for n in (days, megabytes)))
    return limits


def now_in_force() -> dict[Kind, Limits]:
    """What holds for each kind."""
    rules = {Kind(rule.kind): Limits(rule.on, rule.days, rule.megabytes) for rule in Rule.objects.all()}
    return of_settings(settings.FLUXSITE_CLEANUP) | rules
