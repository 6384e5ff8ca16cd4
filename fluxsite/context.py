"""What every page knows."""

from django.conf import settings
from django.http import HttpRequest

from fluxsite import __version__
from gpu.model_card import ModelCard


def studio(request: HttpRequest) -> dict[str, object]:
    """``model``: the card of the model that draws; ``version``: of fluxsite."""
    return {"model": ModelCard.of(settings.FLUXSITE_MODEL), "version": __version__}
