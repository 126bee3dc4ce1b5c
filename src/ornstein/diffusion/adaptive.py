"""A solver of ordinary differential equations with a separate step size for every row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Slope", "integrate"]

# Dormand & Prince (1980), order 5 with an embedded order 4; the last stage is the next step's first.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (), (1 / 5,), (3 / 40, 9 / 40), (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)  # order 5 minus order 4
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0

Slope = Callable[[Tensor, Tensor, Tensor], Tensor]


def integrate(slope: Slope, y: Tensor, start: Tensor, end: Tensor, scale: Callable[[Tensor, Tensor], Tensor],
              max_steps: int = 2000, first_step: float = 0.01) -> tuple[Tensor, Tensor]:
    """Solve dy / da = slope(y, a) for y (B, K) float64, from `start` to `end`, () or (B,), each row with its own steps.

    A row's result does not depend on its neighbours, and finished rows are not computed any further.
    `slope(y, a, rows)` gets (b, K) states, (b,) positions and the (b,) rows of `y` they belong to. A step is accepted
    if the root mean square of error / `scale(before, after)` is at most 1. Returns the states at `end` and the calls
    of `slope`, (B,); raises RuntimeError if a row needs more than `max_steps` steps, or its slope is not finite.
    """
    y = y.clone()
    a = start.expand(len(y)).clone().to(y)
    end = end.expand(len(y)).to(y)
    step = first_step * (end - a)
    calls = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    active = torch.arange(len(y), device=y.device)[(end != a)]
    first_slope = torch.zeros_like(y)
    if len(active):
        first_slope[active] = slope(y[active], a[active], active)
        calls[active] += 1
    for _ in range(max_steps):
        if not len(active):
            return y, calls
        before, at = y[active], a[active]
        rest = end[active] - at
        last = step[active].abs() >= rest.abs()
        h = torch.where(last, rest, step[active])[:, None]
        slopes = [first_slope[active]]
        for node, factors in zip(NODES[1:], STAGES[1:], strict=True):
            after = before + h * sum(factor * k for factor, k in zip(factors, slopes, strict=True) if factor)
            slopes.append(slope(after, torch.where(last & (node == 1.0), end[active], at + node * h[:, 0]), active))
        calls[active] += len(NODES) - 1
        error = h * sum(factor * k for factor, k in zip(ERROR, slopes, strict=True) if factor)
        size = (error / scale(before, after)).square().mean(1).sqrt()
        failed = ~(size.isfinite() & after.isfinite().all(1))
        if failed.any():
            raise RuntimeError(f"the slope is not finite near {float(at[failed][0]):.4g}; the field is singular there")
        accepted = size <= 1
        rows = active[accepted]
        y[rows], a[rows], first_slope[rows] = after[accepted], (at + h[:, 0])[accepted], slopes[-1][accepted]
        growth = (SAFETY * size.clamp(min=1e-10) ** -0.2).clamp(SHRINK, GROW)
        step[active] = h[:, 0] * torch.where(accepted, growth, growth.clamp(max=1.0))
        active = active[~(accepted & last)]
    raise RuntimeError(f"{len(active)} of {len(y)} rows need more than {max_steps} steps; allow a larger tolerance, or "
                       "compute the field in float32 or higher precision")
