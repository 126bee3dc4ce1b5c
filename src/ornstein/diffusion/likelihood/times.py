"""Grids of times for a bound, each with the words that name it beside a number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.arguments import require_int
from ornstein.diffusion.level import doubles
from ornstein.diffusion.schedule import Schedule

__all__ = ["bound_times", "cleanest", "describe", "rising", "span"]

STEPS = 128
NOISIEST = -12.0  # log SNR of the last time, where the schedule goes so far
CLEANEST = 12.0  # log SNR of the first time of continuous data
BINS = 1.5  # noise / signal of the first time of data with levels is half a bin's width over this


def cleanest(levels: int | None = None) -> float:
    """The log SNR at which a bound hands over to its reconstruction term, with the noise well inside a bin."""
    return CLEANEST if levels is None else 2 * math.log(BINS * (require_int("levels", levels, 2) - 1))


def bound_times(schedule: Schedule, steps: int = STEPS, levels: int | None = None,
                log_snr: tuple[float, float] | None = None) -> Tensor:
    """Times for `elbo`, even in log SNR: with them the gap of the bound falls as 1 / steps.

    Args:
        schedule: the path.
        steps: diffusion terms, >= 1.
        levels: of the data, which decide where the reconstruction begins; None for continuous data.
        log_snr: (least, most) of the grid; by default from -12, or where the schedule ends, to `cleanest(levels)`.

    Returns:
        (steps + 2,) float64, strictly increasing from 0.

    Raises:
        ValueError: fewer than one step, a range that is reversed or that the schedule does not have.
    """
    steps = require_int("steps", steps)
    least, most = span(schedule, levels, log_snr)
    times = schedule.time(torch.linspace(most, least, steps + 1, dtype=torch.float64, device="cpu"))
    if least <= float(schedule.log_snr(1.0)):
        times[-1] = 1.0
    return rising(torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), times]))


def span(schedule: Schedule, levels: int | None, log_snr: tuple[float, float] | None) -> tuple[float, float]:
    """(least, most) log SNR of a bound: the range given, once checked, or as far as it makes sense to go."""
    end = float(schedule.log_snr(1.0))
    least, most = log_snr or (max(NOISIEST, end), cleanest(levels))
    # The last digits of a schedule's end are lost on the way to a time and back.
    if not (end - 1e-9 * abs(end) <= least < most < math.inf and math.isfinite(least)):
        raise ValueError(f"log_snr is ({least:g}, {most:g}); its ends must be finite and must rise, and the schedule "
                         f"ends at {end:.3g}")
    return float(least), float(most)


def rising(times: Sequence[float] | Tensor) -> Tensor:
    """The times of a bound, checked: (n + 2,) float64, strictly increasing from 0 to at most 1."""
    grid = doubles("times", times)
    if grid.ndim != 1 or len(grid) < 2 or grid[0] != 0 or not grid[-1] <= 1 or not (grid.diff() > 0).all():
        raise ValueError(f"times is {grid.flatten()[:6].tolist()}...; it must rise strictly from 0, to at most 1")
    return grid


def describe(schedule: Schedule, times: Tensor) -> str:
    """A grid in words: how many steps, of what kind, from which log SNR to which."""
    log_snr = schedule.log_snr(times[1:])
    ends = f"log SNR {float(log_snr[0]):.3g} to {float(log_snr[-1]):.3g}"
    steps = len(times) - 2
    if steps < 1:
        return f"no step, log SNR {float(log_snr[0]):.3g}"
    for name, places in (("time", times[1:]), ("log SNR", log_snr)):
        gaps = places.diff()
        if steps > 1 and gaps.isfinite().all() and float((gaps / gaps.mean() - 1).abs().max()) < 1e-6:
            return f"{steps} steps even in {name}, {ends}"
    return f"{steps} step{'s' * (steps > 1)}, {ends}"
