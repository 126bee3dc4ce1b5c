"""Times of a walk back: grids that are even in some measure, and each time's level on the schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.arguments import require, require_float, require_int
from ornstein.diffusion.level import Level, as_float64, as_time, attach_level
from ornstein.diffusion.schedule import MAX_STEPS, Schedule

__all__ = ["SPACINGS", "Moment", "decreasing_times", "grid", "power_times", "walk_moments"]

SPACINGS = ("time", "angle", "log_snr", "karras", "power")
# A grid even in log SNR leaves pure noise in one step and reaches clean data in another. Both steps shrink as the grid
# is refined, so that samplers converge: its inner ends are at noise / signal = WIDEST * steps and FINEST / steps.
WIDEST, FINEST = 4.5, 0.6
RHO = 5.0  # of the "karras" spacing
# Maximum steps, and powers of the "power" spacing at its clean and its noisy end, from benchmarks/samplers.py.
POWERS = ((5, 2.0, 0.8), (10, 1.6, 0.65), (math.inf, 1.6, 0.8))


def decreasing_times(times: Sequence[float] | Tensor, start: float | None = 1.0) -> Tensor:
    """Return times as (n + 1,) float64 after checking that they decrease strictly from `start`, or if it is None from
    any time up to 1, to 0."""
    walk = as_float64("times", times)
    if walk.ndim != 1 or len(walk) < 2 or not (walk.diff() < 0).all() or walk[-1] != 0 or not (
            walk[0] <= 1 if start is None else walk[0] == start):
        first = "a time up to 1" if start is None else f"{start:g}"
        raise ValueError(f"times is {walk.flatten()[:6].tolist()}...; it must decrease strictly from {first} to 0"
                         + (", or from any time if z is given" if start is not None else ""))
    return walk


def grid(schedule: Schedule, steps: int, spacing: str = "angle", start: float = 1.0) -> Tensor:
    """Times from `start` down to 0 for a sampler, evenly spaced in some measure.

    Args:
        schedule: the path to walk back.
        steps: number of intervals, >= 1.
        spacing: "time"; "angle" of the probability-flow rotation; "log_snr"; "karras", even in
            (noise / signal)^(1 / rho) with rho = 5 (Karras et al. 2022); or "power", even in u with
            noise / signal = u^a / (1 - u)^b, where a and b suit the number of steps.
        start: where the walk begins, in (0, 1].

    Returns:
        (steps + 1,) float64 on the CPU, strictly decreasing, last 0.

    Raises:
        ValueError: fewer than one step, an unknown spacing, or a start outside (0, 1].
    """
    require("spacing", spacing, SPACINGS)
    steps = require_int("steps", steps, maximum=MAX_STEPS)
    if not 0 < require_float("start", start) <= 1:
        raise ValueError(f"start is {start}; it must lie in (0, 1]")
    times = torch.linspace(start, 0, steps + 1, dtype=torch.float64, device="cpu")
    if spacing == "angle":
        times[1:-1] = schedule.time_at(schedule.level(as_time(start)).angle * times[1:-1] / start)
    elif spacing == "power":
        clean, noisy = next(ends for maximum, *ends in POWERS if steps <= maximum)
        times = power_times(schedule, steps, clean, noisy, start)
    elif spacing != "time":
        share = torch.arange(1, steps, dtype=torch.float64, device="cpu") / max(steps - 1, 1)
        noisy = schedule.log_snr(start).clamp(min=-2 * math.log(WIDEST * steps))
        # The grid of a schedule that never becomes noisy is refined from its end.
        clean = max(2 * math.log(steps / FINEST), float(noisy) + 2 * math.log(steps))
        if spacing == "log_snr":
            inner = noisy + (clean - noisy) * share
        else:
            first, last = torch.exp(-noisy / (2 * RHO)), math.exp(-clean / (2 * RHO))
            inner = -2 * RHO * torch.log(first + (last - first) * share)
        times[1:-1] = schedule.time(inner)
    return _below_edge(times, schedule.edge)


def power_times(schedule: Schedule, steps: int, clean: float, noisy: float, start: float = 1.0) -> Tensor:
    """Times from `start` down to 0, even in u with noise / signal = u^clean / (1 - u)^noisy, (steps + 1,)."""
    times = torch.linspace(start, 0, steps + 1, dtype=torch.float64, device="cpu")
    inverse = torch.exp(schedule.log_snr(start) / (2 * noisy))
    u = times[1:-1] / start * 2 / (1 + torch.sqrt(1 + 4 * inverse))
    times[1:-1] = schedule.time(-2 * (clean * torch.log(u) - noisy * torch.log1p(-u)))
    return _below_edge(times, schedule.edge)


def _below_edge(times: Tensor, edge: float) -> Tensor:
    """Decreasing times in which those that a schedule does not have, from its edge on, are spread below the edge."""
    count = int((times[1:] >= edge).sum())
    if edge < 1 and count:
        share = torch.arange(count, dtype=times.dtype, device="cpu") / count
        times[1:count + 1] = edge + share * (times[count + 1] - edge)
    return times


class Moment(float):
    """A time of a walk that knows its `signal` and `noise`; its `clock` is the same time as a tensor for denoisers."""

    clock: Tensor
    signal: float
    noise: float
    radius: float  # hypot(signal, noise)
    angle: float  # atan2(noise, signal)
    log_ratio: float  # log(signal / noise), half the log SNR; +-inf at exact ends

    def __new__(cls, clock: Tensor, signal: float, noise: float) -> Moment:
        moment = super().__new__(cls, float(clock))
        moment.clock, moment.signal, moment.noise = clock, signal, noise
        moment.radius, moment.angle = math.hypot(signal, noise), math.atan2(noise, signal)
        moment.log_ratio = (math.log(signal) if signal else -math.inf) - (math.log(noise) if noise else -math.inf)
        return moment

    def __reduce__(self) -> tuple[type[Moment], tuple[Tensor, float, float]]:
        return Moment, (self.clock, self.signal, self.noise)


def walk_moments(schedule: Schedule, times: Tensor, z: Tensor) -> list[Moment]:
    """The moments of a walk of z at times, (n + 1,) float64, with their levels computed once for all."""
    level, walk = schedule.level(as_time(times)), []
    if (empty := level.signal[1:] == 0).any():
        raise ValueError(f"signal is 0 at t = {float(times[1:][empty][0]):g}; only the first time of a walk may "
                         "have no signal")
    fitted = Level(level.signal.to(z), level.noise.to(z))
    for clock, pair, fitted_pair in zip(times, zip(*level, strict=True), zip(*fitted, strict=True), strict=True):
        attach_level(schedule, clock, Level(*pair), Level(*fitted_pair))
        walk.append(Moment(clock, float(pair[0]), float(pair[1])))
    return walk
