"""Puts the faulty engine in the place of the real one, in the processes of a cluster only."""

import ctypes
import os
from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate

_PR_SET_NAME = 15  # linux/prctl.h
ENGINE = "tests.faults.engine.FaultyBf16Engine"


class FaultsConfig(AppConfig):
    name = "tests.faults"
    label = "faults"

    def ready(self) -> None:
        from gpu.engines import backends

        post_migrate.connect(_deleted_demo_loras, sender=self)

        cluster = os.environ.get("Q_CLUSTER_NAME")
        if cluster:
            _name_processes()
        if cluster == "bf16":
            # A name: what is behind it, and torch, is imported when the first job needs it.
            backends.BACKENDS["diffusers"] = ENGINE
            if os.environ.get("FAULTS_PRELOAD"):
                import tests.faults.engine  # noqa: F401


def _deleted_demo_loras(**_: Any) -> None:
    """As if an administrator had deleted them: no trial of theirs meets a fault that is meant for a job."""
    from loras.models import SeededLora

    for slug in ("night", "outline"):
        SeededLora.objects.get_or_create(slug=slug)


def _name_processes() -> None:
    """Give the processes that django-q2 forks the names of what they run, for psutil to see."""
    from django_q import cluster

    for role in ("Sentinel", "worker", "monitor", "pusher"):
        setattr(cluster, role, _named(role.lower(), getattr(cluster, role)))


def _named(role: str, run: Callable[..., Any]) -> Callable[..., Any]:
    def named(*args: Any) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, role.encode(), 0, 0, 0)
        run(*args)

    return named
