"""The product's settings, and the faults."""

from fluxsite.settings import *  # noqa: F403
from fluxsite.settings import INSTALLED_APPS as PRODUCT_APPS

INSTALLED_APPS = [*PRODUCT_APPS, "tests.faults"]
