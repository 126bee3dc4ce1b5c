"""Averages of the weights over the training, by power-function profiles (Karras et al. 2024, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ornstein.arguments import require_float

__all__ = ["exponent", "reconstruction", "update"]

WIDEST = 0.28  # relative width of a power-function profile, at most

Profile = tuple[float, float]  # its end, in pictures or steps, and its gamma


def exponent(width: float) -> float:
    """The gamma of an average whose relative standard deviation, sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))), is
    `width`.

    The average at step n weighs step i by i^gamma; ValueError for a width outside (0, 0.28].
    """
    if not 0 < require_float("average", width) <= WIDEST:
        raise ValueError(f"average is {width}; the relative width of the average must lie in (0, {WIDEST}]")
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(roots[np.isreal(roots)].real.max())


@torch.no_grad()
def update(average: Iterable[Tensor], weights: Iterable[Tensor], step: int, gamma: float) -> None:
    """Move the average towards the weights of step number `step` >= 1: by 1 - (1 - 1 / step)^(gamma + 1), in place."""
    torch._foreach_lerp_(list(average), list(weights), 1 - (1 - 1 / step) ** (gamma + 1))


def overlap(a: Profile, b: Profile) -> float:
    """Inner product of two power-function profiles (Karras et al. 2024, appendix C).

    With p(x) = (g + 1) x^g / t^(g + 1) on [0, t], and s <= t the ends of the profiles of exponents g and h:

        int p q dx = (g + 1) (h + 1) / (g + h + 1) (s / t)^h / t.
    """
    (first, g), (last, h) = sorted((a, b))
    return (g + 1) * (h + 1) / (g + h + 1) * (first / last) ** h / last


def reconstruction(stored: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, float]:
    """Coefficients (n,) float64 that combine the stored profiles into the best fit of the wanted one, and the relative
    error of that fit.

    Least squares on the profiles themselves, A c = b with the inner products of the stored ones in A and those with the
    wanted one in b (Karras et al. 2024, section 3.2): averages of the weights are linear in their profiles.
    """
    # Profiles of unit norm: ends that differ a hundredfold would make the matrix ill-conditioned.
    norms = np.sqrt([overlap(p, p) for p in stored])
    a = np.array([[overlap(p, q) for q in stored] for p in stored]) / np.outer(norms, norms)
    b = np.array([overlap(p, wanted) for p in stored]) / norms
    c = np.linalg.lstsq(a, b, rcond=1e-12)[0]
    size = overlap(wanted, wanted)
    error = max(0.0, size - 2 * c @ b + c @ a @ c) / size
    return c / norms, float(np.sqrt(error))
