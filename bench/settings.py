"""The product's settings, and what a measurement changes of them, by the environment.

``BENCH_STAND_IN_SECONDS``: the BF16 engine is a stand-in that sleeps so long. ``BENCH_STOCK``: the cluster is
django-q2's own, with these options (JSON).
"""

import json
import os

from fluxsite.settings import *  # noqa: F403
from fluxsite.settings import INSTALLED_APPS as PRODUCT_APPS
from fluxsite.settings import LOGGING

INSTALLED_APPS = [*PRODUCT_APPS, "bench.apps.BenchConfig"]
if options := os.environ.get("BENCH_STOCK"):
    Q_CLUSTER = {"name": "stock", "orm": "default", "ALT_CLUSTERS": {}, **json.loads(options)}
# A line for each of a thousand jobs says nothing; what is amiss is still said.
LOGGING["handlers"]["console"]["level"] = "WARNING"
