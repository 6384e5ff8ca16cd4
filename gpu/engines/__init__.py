"""Engines: a frozen description of a picture in, the picture out. No database in here.

This module is free of torch, so that the web process may read the types; the engines behind
``create`` are imported by a worker only.
"""

import logging
import os

from gpu.engines.backends import ENGINES, Plan, Refusal, create, plan
from gpu.engines.errors import (
    Cancelled,
    DeviceFailed,
    EngineError,
    InvalidOutput,
    InvalidSize,
    LoraFailed,
    ModelFailed,
    OutOfMemory,
)
from gpu.engines.spec import Drawn, Engine, EngineConfig, Held, ImageSpec, LoraRef, OnStep

# At every import the libraries behind the engines report what they lack and we do not need. They are imported
# after this.
for _variable in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
    os.environ.setdefault(_variable, "error")
for _logger in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_logger).setLevel(logging.ERROR)

__all__ = [
    "ENGINES",
    "Cancelled",
    "DeviceFailed",
    "Drawn",
    "Engine",
    "EngineConfig",
    "EngineError",
    "Held",
    "ImageSpec",
    "InvalidOutput",
    "InvalidSize",
    "LoraFailed",
    "LoraRef",
    "ModelFailed",
    "OnStep",
    "OutOfMemory",
    "Plan",
    "Refusal",
    "create",
    "plan",
]
