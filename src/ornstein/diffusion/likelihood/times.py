"""Grids of times for a bound, with their descriptions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.arguments import require_int
from ornstein.diffusion.level import as_float64
from ornstein.diffusion.schedule import Schedule

__all__ = ["bound_range", "bound_times", "clean_log_snr", "describe", "increasing_times"]

STEPS = 128
NOISIEST = -12.0  # log SNR of the last time, if the schedule goes that far
CLEANEST = 12.0  # log SNR of the first time of continuous data
BINS = 1.5  # half a bin's width over noise / signal at the first time of data with levels


def clean_log_snr(levels: int | None = None) -> float:
    """The log SNR at which the reconstruction term of a bound begins, with the noise well inside a bin."""
    return CLEANEST if levels is None else 2 * math.log(BINS * (require_int("levels", levels, 2) - 1))


def bound_times(schedule: Schedule, steps: int = STEPS, levels: int | None = None,
                log_snr: tuple[float, float] | None = None) -> Tensor:
    """Times for `elbo`, even in log SNR: with them the gap of the bound falls as 1 / steps.

    Args:
        schedule: the path.
        steps: diffusion terms, >= 1.
        levels: of the data, which determine where the reconstruction begins; None for continuous data.
        log_snr: (minimum, maximum) of the grid; by default from -12, or the schedule's end, to
            `clean_log_snr(levels)`.

    Returns:
        (steps + 2,) float64, strictly increasing from 0.

    Raises:
        ValueError: fewer than one step, a range that is reversed or beyond the schedule.
    """
    steps = require_int("steps", steps)
    minimum, maximum = bound_range(schedule, levels, log_snr)
    times = schedule.time(torch.linspace(maximum, minimum, steps + 1, dtype=torch.float64, device="cpu"))
    if minimum <= float(schedule.log_snr(1.0)):
        times[-1] = 1.0
    return increasing_times(torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), times]))


def bound_range(schedule: Schedule, levels: int | None, log_snr: tuple[float, float] | None) -> tuple[float, float]:
    """(minimum, maximum) log SNR of a bound: `log_snr` after a check, or the default range."""
    end = float(schedule.log_snr(1.0))
    minimum, maximum = log_snr or (max(NOISIEST, end), clean_log_snr(levels))
    # The conversion to a time and back loses the last digits of a schedule's end.
    if not (end - 1e-9 * abs(end) <= minimum < maximum < math.inf and math.isfinite(minimum)):
        raise ValueError(f"log_snr is ({minimum:g}, {maximum:g}); its ends must be finite and increasing, and the "
                         f"schedule ends at {end:.3g}")
    return float(minimum), float(maximum)


def increasing_times(times: Sequence[float] | Tensor) -> Tensor:
    """Return the times of a bound, (n + 2,) float64, after checking that they increase strictly from 0 to at most 1."""
    grid = as_float64("times", times)
    if grid.ndim != 1 or len(grid) < 2 or grid[0] != 0 or not grid[-1] <= 1 or not (grid.diff() > 0).all():
        raise ValueError(f"times is {grid.flatten()[:6].tolist()}...; it must increase strictly from 0 to at most 1")
    return grid


def describe(schedule: Schedule, times: Tensor) -> str:
    """A description of a grid: its number of steps, their spacing, and the range of log SNR."""
    log_snr = schedule.log_snr(times[1:])
    ends = f"log SNR {float(log_snr[0]):.3g} to {float(log_snr[-1]):.3g}"
    steps = len(times) - 2
    if steps < 1:
        return f"no step, log SNR {float(log_snr[0]):.3g}"
    for name, values in (("time", times[1:]), ("log SNR", log_snr)):
        gaps = values.diff()
        if steps > 1 and gaps.isfinite().all() and float((gaps / gaps.mean() - 1).abs().max()) < 1e-6:
            return f"{steps} steps even in {name}, {ends}"
    return f"{steps} step{'s' * (steps > 1)}, {ends}"
