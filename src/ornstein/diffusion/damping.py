"""A denoiser with a damped velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.arguments import require_float
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser, DenoiserWrapper
from ornstein.diffusion.estimate import Estimate

__all__ = ["Damped", "check_damping"]

LIMIT = 0.5


class Damped(DenoiserWrapper):
    """Mixes a share of the velocity toward the data's mean into a denoiser's velocity.

    v' = (1 - damping) v - damping s mean,   with s = noise / hypot(signal, noise)

    A network fitted by least squares smooths: it takes too much of z for noise, and the errors of one step are taken
    for data in the next. A damping of one or two per cent compensates part of that, as scaling eps-hat does (Ning et
    al. 2024); an exact denoiser becomes worse.

    Args:
        denoiser: the denoiser; the mean is its `data_mean`, or 0 without one.
        damping: from -0.5 to 0.5; 0 is the denoiser itself.

    Raises:
        ValueError: a damping out of range.
    """

    def __init__(self, denoiser: Denoiser, damping: float) -> None:
        super().__init__(denoiser)
        self.damping = check_damping(damping)

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        estimate = self.denoiser(z, t, condition)
        mean = getattr(self.denoiser, "data_mean", torch.zeros((), dtype=z.dtype, device=z.device)).to(z)
        v_mean = -estimate.level.unit.noise * mean
        return Estimate(z, estimate.level, torch.lerp(estimate.v, v_mean.expand_as(estimate.v), self.damping))


def check_damping(value: float) -> float:
    """Return a damping after checking that it lies from -0.5 to 0.5."""
    if not -LIMIT <= require_float("damping", value) <= LIMIT:
        raise ValueError(f"damping is {value}; it must lie from -{LIMIT:g} to {LIMIT:g}")
    return float(value)
