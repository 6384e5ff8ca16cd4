"""The engines there are. A new backend is a module beside this one and a line below."""

from importlib import import_module
from typing import cast

from gpu.engines.spec import Engine

ENGINES = {
    "bf16": "gpu.engines.bf16.Bf16Engine",
}


def create(name: str, model: str, max_sequence_length: int) -> Engine:
    """Make the engine called ``name`` for ``model`` (a directory or a hub id). Imports torch.

    ``max_sequence_length``: T5 tokens the model reads of a prompt; it is part of what is drawn.
    Raises KeyError for a name that is not in ``ENGINES``.
    """
    module, _, cls = ENGINES[name].rpartition(".")
    return cast(Engine, getattr(import_module(module), cls)(model, max_sequence_length))
