"""Engines: a frozen description of a picture in, the picture out. No database in here.

This module is free of torch, so that the web process may read the types; the engines behind
``create`` are imported by a worker only.
"""

from gpu.engines.errors import Cancelled, EngineError, InvalidOutput, LoraFailed, ModelFailed, OutOfMemory
from gpu.engines.registry import ENGINES, create
from gpu.engines.spec import Engine, ImageSpec, LoraRef, OnStep

__all__ = [
    "ENGINES",
    "Cancelled",
    "Engine",
    "EngineError",
    "ImageSpec",
    "InvalidOutput",
    "LoraFailed",
    "LoraRef",
    "ModelFailed",
    "OnStep",
    "OutOfMemory",
    "create",
]
