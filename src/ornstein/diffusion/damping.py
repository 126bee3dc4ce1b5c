"""A denoiser whose steps are a little shorter than its network says."""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.arguments import require_float
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser, Wrapped
from ornstein.diffusion.estimate import Estimate

__all__ = ["Damped", "as_damping"]

MOST = 0.5


class Damped(Wrapped):
    """A share of the velocity is given up for that of the data's mean.

    v' = (1 - damping) v - damping s mean,   with s = noise / hypot(signal, noise)

    A network fitted by squares smooths: it takes too much of z for noise, and errors of one step are taken for data in
    the next. Taking a per cent or two less makes up for part of it, as scaling eps-hat does (Ning et al. 2024); the
    exact denoiser of some data is made worse.

    Args:
        denoiser: whose velocity it is; its `data_mean` is the mean, which is 0 where it has none.
        damping: from -0.5 to 0.5; 0 is the denoiser itself.

    Raises:
        ValueError: a damping out of range.
    """

    def __init__(self, denoiser: Denoiser, damping: float) -> None:
        super().__init__(denoiser)
        self.damping = as_damping(damping)

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        estimate = self.denoiser(z, t, condition)
        mean = getattr(self.denoiser, "data_mean", torch.zeros((), dtype=z.dtype, device=z.device)).to(z)
        of_mean = -estimate.level.unit.noise * mean
        return Estimate(z, estimate.level, torch.lerp(estimate.v, of_mean.expand_as(estimate.v), self.damping))


def as_damping(value: float) -> float:
    """A damping, checked to lie from -0.5 to 0.5."""
    if not -MOST <= require_float("damping", value) <= MOST:
        raise ValueError(f"damping is {value}; it must lie from -{MOST:g} to {MOST:g}")
    return float(value)
