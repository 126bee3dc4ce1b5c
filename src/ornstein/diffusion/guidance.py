"""Guidance: denoisers that wrap denoisers (section 20.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.arguments import require_float
from ornstein.diffusion.condition import Condition, no_condition
from ornstein.diffusion.denoiser import Denoiser, DenoiserWrapper
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import as_time, per_row

__all__ = ["Guided", "guided"]


class Guided(DenoiserWrapper):
    """Classifier-free guidance (Ho & Salimans 2022): away from the model's samples without a condition.

    v = v(z) + scale (v(z | condition) - v(z)) within an interval of times (Kynkäänniemi et al. 2024); the conditional
    model outside it and at scale 1. Both estimates come from one call with twice the rows.

    Args:
        denoiser: a model trained with and without conditions; class -1 or a vector of NaN means "none".
        scale: 1 is the conditional model, 0 the unconditional one, above 1 exaggerates the condition.
        interval: (minimum, maximum) of the times at which to guide.

    Raises:
        ValueError: an interval outside [0, 1] or reversed, or a scale that is not finite.
    """

    def __init__(self, denoiser: Denoiser, scale: float, interval: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__(denoiser)
        if not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"interval is {interval}; it must satisfy 0 <= minimum <= maximum <= 1")
        self.scale, self.interval = require_float("scale", scale), interval

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        conditions = self.read_condition(condition, len(z), z.device)
        if conditions is None:
            raise ValueError("condition is None; guidance needs a class to guide towards")
        time = as_time(t)
        inside = (time >= self.interval[0]) & (time <= self.interval[1])
        if self.scale == 1 or not inside.any():
            return self.denoiser(z, t, conditions)
        times = time.reshape(-1).expand(len(z)).repeat(2)
        both = self.denoiser(z.repeat(2, *[1] * (z.ndim - 1)), times, torch.cat([conditions, no_condition(conditions)]))
        conditional, unconditional = both.v.chunk(2)
        scale = per_row(torch.where(inside, torch.tensor(self.scale, dtype=torch.float64, device="cpu"), 1.0), z)
        return Estimate(z, self.level(z, t), unconditional + scale * (conditional - unconditional))


def guided(denoiser: Denoiser, guidance: float | None) -> Denoiser:
    """The denoiser with guidance at all times, or the denoiser itself if `guidance` is None or 1."""
    return denoiser if guidance is None or require_float("guidance", guidance) == 1 else Guided(denoiser, guidance)
