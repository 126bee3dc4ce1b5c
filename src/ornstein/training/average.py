"""Averages of the weights over the training, by power-function profiles (Karras et al. 2024, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

__all__ = ["exponent", "update"]


def exponent(width: float) -> float:
    """The gamma of a power-function average whose standard deviation is `width` of the training's length.

    The average at step n weighs step i by i^gamma, whose relative standard deviation is
    sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))).

    Args:
        width: in (0, 0.28].

    Raises:
        ValueError: a width outside that range.
    """
    if not 0 < width <= 0.28:
        raise ValueError(f"average is {width}; the relative width of the average must lie in (0, 0.28]")
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(roots[np.isreal(roots)].real.max())


@torch.no_grad()
def update(average: Iterable[Tensor], weights: Iterable[Tensor], step: int, gamma: float) -> None:
    """Move the average towards the weights of step number `step` >= 1: by 1 - (1 - 1 / step)^(gamma + 1), in place."""
    torch._foreach_lerp_(list(average), list(weights), 1 - (1 - 1 / step) ** (gamma + 1))
