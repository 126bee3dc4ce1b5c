"""A linear rule with learned weights, for one model, one grid of times and one number of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ornstein.arguments import require_float
from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["MAX_LEARNED", "Learned"]

MAX_LEARNED = 16  # steps; the number of weights is their square
MAX_WEIGHT = 1e18  # weights may be as large as the noise of a schedule


class Learned(Rule):
    """Each step is a weighted sum of all latents and velocities of the walk so far.

        z_(n+1) = sum_(j <= n) points_nj z_j + slopes_nj v_j

    Every linear multistep rule has this form (Pokle et al. 2026); here `ornstein.tune` learns the weights.

    Args:
        points: n + 1 weights of z_0 ... z_n for each step n = 0, 1, ...
        slopes: as many of v_0 ... v_n.

    Raises:
        ValueError: weights that are too many or too few, not finite or above 1e18.
    """

    order = 1
    spacing = "power"

    def __init__(self, points: Sequence[Sequence[float]], slopes: Sequence[Sequence[float]]) -> None:
        self.points, self.slopes = (_triangle(name, rows) for name, rows in (("points", points), ("slopes", slopes)))
        if len(self.points) != len(self.slopes):
            raise ValueError(f"points has {len(self.points)} steps and slopes {len(self.slopes)}; they must agree")
        self.memory = len(self.points) - 1

    def advance(self, step: Step) -> Tensor:
        n = len(step.past)
        if n >= len(self.points) or step.last != (n == len(self.points) - 1):
            raise ValueError(f"the rule was learned for walks of {len(self.points)} steps; this walk has others")
        # Latest first, like the calls; z_j = signal_j x-hat_j + noise_j eps-hat_j.
        weight_z, *past_weights = reversed(self.points[n])
        past = list(zip(past_weights, (call.at for call in step.past), strict=True))
        return step.mix(z=weight_z, x=[0.0, *(weight * at.signal for weight, at in past)],
                        eps=[0.0, *(weight * at.noise for weight, at in past)], v=self.slopes[n][::-1])


def _triangle(name: str, rows: Any) -> tuple[tuple[float, ...], ...]:
    """Rows of 1, 2, 3, ... finite numbers."""
    if isinstance(rows, str) or not isinstance(rows, Sequence) or not 1 <= len(rows) <= MAX_LEARNED:
        raise ValueError(f"{name} must be weights of 1 to {MAX_LEARNED} steps")
    for n, row in enumerate(rows):
        if isinstance(row, str) or not isinstance(row, Sequence) or len(row) != n + 1:
            raise ValueError(f"{name}[{n}] must hold {n + 1} numbers")
        if (largest := max(abs(require_float(f"{name}[{n}]", value)) for value in row)) > MAX_WEIGHT:
            raise ValueError(f"{name}[{n}] holds {largest:g}; a weight is at most {MAX_WEIGHT:g}")
    return tuple(tuple(map(float, row)) for row in rows)
