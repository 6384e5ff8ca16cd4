"""The system check of the cleanup's policy."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from operations import policy


@register()
def policy_can_be_read(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E001: ``FLUXSITE_CLEANUP`` says something that is no rule."""
    try:
        policy.of_settings(settings.FLUXSITE_CLEANUP)
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Correct it, or leave it out for the defaults.", id="operations.E001")]
    return []
