"""What the admin's first page says of the studio."""

from django import template

from operations import health
from operations.health import Finding

register = template.Library()


@register.simple_tag
def amiss() -> list[Finding]:
    """What somebody should look at."""
    return [finding for finding in health.findings() if not finding.ok]
