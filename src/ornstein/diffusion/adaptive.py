"""Ordinary differential equations with a step size of its own for every row."""

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
APART = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)  # order 5 less order 4
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0

Slope = Callable[[Tensor, Tensor, Tensor], Tensor]


def integrate(slope: Slope, y: Tensor, start: Tensor, end: Tensor, scale: Callable[[Tensor, Tensor], Tensor],
              most: int = 2000, first: float = 0.01) -> tuple[Tensor, Tensor]:
    """Solve dy / da = slope(y, a) for y (B, K) float64, from `start` to `end`, () or (B,), each row with steps of its
    own.

    A row's result does not depend on its neighbours, and rows that have arrived are not calculated any further.
    `slope(y, a, rows)` gets (b, K) states, (b,) places and the (b,) rows of `y` they belong to. A step holds if the
    root mean square of error / `scale(before, after)` is at most 1. Gives the states at `end` and, (B,), the calls of
    `slope`; raises RuntimeError where a row needs more than `most` steps, or its slope is not finite.
    """
    y = y.clone()
    place = start.expand(len(y)).clone().to(y)
    end = end.expand(len(y)).to(y)
    step = first * (end - place)
    calls = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    live = torch.arange(len(y), device=y.device)[(end != place)]
    known = torch.zeros_like(y)
    if len(live):
        known[live] = slope(y[live], place[live], live)
        calls[live] += 1
    for _ in range(most):
        if not len(live):
            return y, calls
        now, at = y[live], place[live]
        rest = end[live] - at
        last = step[live].abs() >= rest.abs()
        h = torch.where(last, rest, step[live])[:, None]
        slopes = [known[live]]
        for node, factors in zip(NODES[1:], STAGES[1:], strict=True):
            moved = now + h * sum(factor * k for factor, k in zip(factors, slopes, strict=True) if factor)
            slopes.append(slope(moved, torch.where(last & (node == 1.0), end[live], at + node * h[:, 0]), live))
        calls[live] += len(NODES) - 1
        error = h * sum(factor * k for factor, k in zip(APART, slopes, strict=True) if factor)
        size = (error / scale(now, moved)).square().mean(1).sqrt()
        lost = ~(size.isfinite() & moved.isfinite().all(1))
        if lost.any():
            raise RuntimeError(f"the slope is not finite near {float(at[lost][0]):.4g}; the field is singular there")
        holds = size <= 1
        done = live[holds]
        y[done], place[done], known[done] = moved[holds], (at + h[:, 0])[holds], slopes[-1][holds]
        growth = (SAFETY * size.clamp(min=1e-10) ** -0.2).clamp(SHRINK, GROW)
        step[live] = h[:, 0] * torch.where(holds, growth, growth.clamp(max=1.0))
        live = live[~(holds & last)]
    raise RuntimeError(f"{len(live)} of {len(y)} rows need more than {most} steps; allow a larger tolerance, or "
                       "calculate the field in float32 or finer")
