"""Attention for training on a CPU, where the fused kernel's backward pass is slower than plain products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch.nn.functional as F
from torch import Tensor

_SCALE = 32**-0.5  # of the heads here; a shape would be symbolic when compiled
_fused = F.scaled_dot_product_attention


def _plain(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    if (
        args
        or any(options.get(name) for name in ("is_causal", "dropout_p"))
        or options.get("attn_mask") is not None
    ):
        return _fused(query, key, value, *args, **options)
    weights = (query * _SCALE) @ key.transpose(-1, -2)
    return weights.float().softmax(-1) @ value


@contextmanager
def plain_attention() -> Iterator[None]:
    """Within it, attention without a mask is two matrix products and a softmax."""
    with mock.patch.object(F, "scaled_dot_product_attention", _plain):
        yield
