"""Data on discrete levels: bins around them, and the noise that fills the bins."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ornstein import noise
from ornstein.arguments import require_int

__all__ = ["bin_log_prob", "check_levels", "dequantise", "on_levels"]


def on_levels(x: Tensor, levels: int) -> bool:
    """Whether every value of x is one of `levels` evenly spaced values from -1 to 1, to the precision of its dtype."""
    position = (x.double() + 1) / 2 * (require_int("levels", levels, 2) - 1)
    tolerance = max(1e-6, 4 * torch.finfo(x.dtype).eps if x.is_floating_point() else 0) * levels
    return bool((((position - position.round()).abs() <= tolerance) & (x.double().abs() <= 1 + tolerance)).all())


def check_levels(x: Tensor, levels: int | None) -> int | None:
    """Return the number of levels of the data, None for a density; ValueError if x lies between the levels."""
    if levels is None:
        return None
    levels = require_int("levels", levels, 2)
    if not on_levels(x, levels):
        raise ValueError(f"x has values between the {levels} levels from -1 to 1; round them, or leave levels out")
    return levels


def bin_log_prob(x: Tensor, mean: Tensor, std: Tensor, levels: int) -> Tensor:
    """Log probability of the bins of x, (B, ...) float64, under N(mean, std^2), value by value, finite, in nats.

    The bin of a level extends 1 / (levels - 1) to either side; those of -1 and 1 are unbounded outwards, because values
    beyond the range are decoded as its ends (Ho et al. 2020, equation 13). The probabilities of all levels sum to 1.
    """
    half = 1 / (levels - 1)
    # Mirrored so that the lower tail is used, where log_ndtr is exact.
    sign = torch.where(x > mean, -1.0, 1.0)
    low, high = sign * (x - half - mean) / std, sign * (x + half - mean) / std
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    first, last = x < -1 + half, x > 1 - half
    low = torch.where(torch.where(sign > 0, first, last), -math.inf, low)
    high = torch.where(torch.where(sign > 0, last, first), math.inf, high)
    upper = torch.special.log_ndtr(high)
    # log(exp(a) - exp(b)) = a + log(1 - exp(b - a)); far out in the tail b - a is a large negative number.
    gap = torch.special.log_ndtr(low) - upper
    return upper + torch.log(-torch.expm1(gap.clamp(max=-1e-300)))


def dequantise(x: Tensor, levels: int, seed: int = 0) -> Tensor:
    """Spread data on levels over their bins: x + u with u uniform in +-1 / (levels - 1) (Theis et al. 2016).

    E log p(x + u) + D log(2 / (levels - 1)) <= log P(x), where P(x) is the probability of the bin of x under p.

    Args:
        x: (B, ...) data on `levels` evenly spaced values from -1 to 1.
        levels: number of them, >= 2.
        seed: of the noise; row i has the same noise in any batch.

    Returns:
        (B, ...) in the dtype of x, at least float32.

    Raises:
        ValueError: values between the levels.
    """
    if not on_levels(x, levels):
        raise ValueError(f"x has values between the {levels} levels from -1 to 1; there is nothing to dequantise")
    u = torch.from_numpy(noise.generator(seed, "dequantise").uniform(-1, 1, tuple(x.shape)) / (levels - 1))
    return (x.double() + u.to(x.device)).to(torch.promote_types(x.dtype, torch.float32))
