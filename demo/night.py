"""The night palette of the "midnight" adapter."""

from __future__ import annotations

import torch
from torch import Tensor

from demo.canvas import Canvas

_STARS = (
    (0.07, 0.10), (0.18, 0.31), (0.24, 0.07), (0.35, 0.19), (0.46, 0.06), (0.58, 0.15),
    (0.69, 0.05), (0.93, 0.33), (0.06, 0.52), (0.95, 0.58), (0.11, 0.76), (0.90, 0.82),
    (0.29, 0.92), (0.67, 0.94), (0.40, 0.36), (0.72, 0.36),
)  # fmt: skip
"""Star places as shares of width and height: fixed, because four steps blur what is random."""
_TINT = torch.tensor((0.62, 0.78, 1.25)).view(1, 3, 1, 1)
_FLOOR = torch.tensor((0.010, 0.018, 0.060)).view(1, 3, 1, 1)
_MOON = (0.83, 0.15, 0.065)


def at_night(canvas: Canvas) -> Tensor:
    """The picture (B, 3, H, W) darkened and blue, with a moon and stars where nothing hides the sky."""
    image = canvas.image
    light = image.mean(dim=1, keepdim=True)
    dark = (0.36 * image + 0.06 * light) * _TINT + _FLOOR
    sky = canvas.open.unsqueeze(1)
    glow = (_lights(canvas) * sky).clamp(0, 1)
    return dark + (torch.tensor((0.96, 0.95, 0.86)).view(1, 3, 1, 1) - dark) * glow


def _lights(canvas: Canvas) -> Tensor:
    """Opacity (1, 1, H, W) of the stars, the moon and its halo."""
    out = torch.zeros(1, canvas.y.shape[1], canvas.x.shape[2])
    for u, v in _STARS:
        away = torch.hypot(canvas.x - u * canvas.width, canvas.y - v * canvas.height)
        out = torch.maximum(out, torch.exp(-((away / 0.011) ** 2)))
    u, v, radius = _MOON
    away = torch.hypot(canvas.x - u * canvas.width, canvas.y - v * canvas.height)
    out = torch.maximum(out, canvas.coverage(away - radius))
    return torch.maximum(out, 0.28 * torch.exp(-away / 0.16)).unsqueeze(1)
