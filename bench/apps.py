"""What a measurement puts into the product's processes: names, and work that only sleeps."""

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import PIL.Image
from django.apps import AppConfig
from django.conf import settings

from gpu.engines import Drawn, EngineConfig, Held, ImageSpec, OnStep, Plan, backends

_PR_SET_NAME = 15  # linux/prctl.h


class BenchConfig(AppConfig):
    name = "bench"

    def ready(self) -> None:
        if os.environ.get("Q_CLUSTER_NAME"):
            _name_processes()
        if os.environ.get("BENCH_STAND_IN_SECONDS"):
            backends.BACKENDS["diffusers"] = "bench.apps.StandIn"


def _name_processes() -> None:
    """Call the processes that django-q2 forks what they are, for psutil to see."""
    from django_q import cluster

    for role in ("Sentinel", "worker", "monitor", "pusher"):
        setattr(cluster, role, _named(role.lower(), getattr(cluster, role)))


def _named(role: str, run: Callable[..., Any]) -> Callable[..., Any]:
    def named(*args: Any) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, role.encode(), 0, 0, 0)
        run(*args)

    return named


def work(name: str) -> None:
    """The work of every job, of fluxsite and of stock django-q2: it sleeps, and notes when."""
    _note("start", name)
    time.sleep(float(os.environ["BENCH_STAND_IN_SECONDS"]))
    _note("end", name)


def _note(what: str, name: str) -> None:
    with Path(settings.VAR_DIR, "work.log").open("a") as log:
        log.write(f"{what} {name} {time.time()}\n")


class StandIn:
    """An engine that draws nothing: it works, and returns a grey picture."""

    name: ClassVar[str] = "bf16"
    backend = "stand-in"

    def __init__(self, config: EngineConfig, plan: Plan) -> None:
        self.loaded = False

    def load(self) -> None:
        self.loaded = True

    def unload(self) -> None:
        self.loaded = False

    def held(self) -> Held:
        return Held()

    def batch_size(self, width: int, height: int) -> int:
        return 1

    def generate(self, spec: ImageSpec, on_step: OnStep) -> Drawn:
        work(spec.prompt)
        return Drawn(tuple(PIL.Image.new("RGB", (spec.width, spec.height), "grey") for _ in spec.seeds))
