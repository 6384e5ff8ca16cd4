"""Measurements, by hand: each prints both sides of a comparison from one run."""

import gpu.engines  # noqa: F401 (first of all: it quiets the libraries)
