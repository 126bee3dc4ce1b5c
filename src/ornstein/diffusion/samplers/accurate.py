"""Samples to a tolerance: the probability flow in steps of order 5, adapted to each sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ornstein.arguments import require_float
from ornstein.diffusion.adaptive import integrate
from ornstein.diffusion.denoiser import Batched, Denoiser
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import as_time, per_row

__all__ = ["follow_flow"]


def follow_flow(denoiser: Denoiser, z: Tensor, conditions: Tensor | None, rows: int, tolerance: float) -> Tensor:
    """Samples of the flow from z, (B, *shape) at t = 1: dy / d(angle) = v to noise / signal = tolerance, then x-hat.

    The error of a step is at most `tolerance` in y = z / hypot(signal, noise), absolute and relative, root mean square
    over a sample's values; RuntimeError if that cannot be reached.
    """
    if not 0 < require_float("tolerance", tolerance) < 1:
        raise ValueError(f"tolerance is {tolerance}; it must lie between 0 and 1")
    schedule, shape = denoiser.schedule, z.shape[1:]
    first = schedule.level(as_time(1.0))
    last = torch.tensor(math.atan(tolerance), dtype=torch.float64, device="cpu")

    def estimate_at(y: Tensor, angle: Tensor, rows_of_y: Tensor) -> Estimate:
        time, latent = schedule.time_at(angle), y.reshape(-1, *shape).to(z)
        batched = Batched(denoiser, None if conditions is None else conditions[rows_of_y.cpu()], rows)
        return batched(latent * per_row(schedule.level(time).radius, latent), time)

    def slope(y: Tensor, angle: Tensor, rows_of_y: Tensor) -> Tensor:
        return estimate_at(y, angle, rows_of_y).v.flatten(1).double()

    y, _ = integrate(slope, (z / first.radius.to(z)).flatten(1).double(), first.angle, last,
                     lambda before, after: tolerance * (1 + torch.maximum(before.abs(), after.abs())))
    return estimate_at(y, last.expand(len(y)), torch.arange(len(y), device="cpu")).x
