"""What a sampler is: a rule that takes one step back, given the denoiser's estimate where it stands."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.schedule import Level, Moment, Schedule, spread

__all__ = ["Rule", "Step", "combine", "readings", "rotate", "turned"]


@dataclass(frozen=True)
class Step:
    """One step from time t back to time s, and all that a rule may ask for.

    Args:
        schedule: of the denoiser.
        t, s: times, s < t, () or (B,) float64 on the CPU.
        estimate: the denoiser's estimate at (z_t, t); `estimate.z` is z_t.
        past: (time, estimate) of the steps before, latest first, as many as the rule's `memory` and fewer at the start.
        denoise: calls the denoiser once more, denoise(z, time) -> Estimate.
        noise: draws standard normal noise like z; the k-th draw of a step is always the same.
    """

    schedule: Schedule
    t: Tensor
    s: Tensor
    estimate: Estimate
    past: tuple[tuple[Tensor, Estimate], ...]
    denoise: Callable[[Tensor, Tensor], Estimate]
    noise: Callable[[], Tensor]

    @property
    def z(self) -> Tensor:
        """z_t, (B, ...)."""
        return self.estimate.z

    def angle(self, time: Tensor) -> Tensor:
        """The rotation's angle at a time, float64, shaped to broadcast against z but not cast to its dtype."""
        return spread(self.schedule.level(time).angle, self.z.new_empty(self.z.shape, dtype=torch.float64))

    def level(self, time: Tensor) -> Level:
        """The level at a time, shaped and cast to broadcast against z."""
        return self.schedule.level(time).fit(self.z)

    def time_of(self, angle: Tensor) -> Tensor:
        """The time at which the rotation has an angle, () or (B,) float64; `angle` as `angle` gives it."""
        time = self.schedule.time(-2 * torch.log(torch.tan(angle.cpu())))
        return time.reshape(-1) if time.ndim else time

    def to(self, s: Tensor) -> Step:
        """The same step, to another time."""
        return replace(self, s=s)

    def clean(self) -> Literal[True] | Tensor | None:
        """Which rows this step takes to clean data: True for all, None for none, else a mask that broadcasts."""
        if self.s.ndim == 0 or len(self.s) == 1:
            return True if float(self.s) == 0 else None
        return spread(self.s == 0, self.z).bool() if (self.s == 0).any() else None

    def factors(self, rule: Callable[[tuple[tuple[float, float], ...]], Sequence[float]],
                times: Sequence[Tensor]) -> list[float] | list[Tensor]:
        """Numbers that follow from levels alone, calculated in float64 for each row.

        Args:
            rule: gives the numbers from the (signal, noise) of each of `times`.
            times: () or (B,) each.

        Returns:
            The numbers; where the times differ from row to row, (B, 1, ...) tensors that broadcast against z.
        """
        rows = max([len(time) if time.ndim else 1 for time in times])
        if rows == 1:
            return list(rule(tuple([self._level(time) for time in times])))
        levels = [tuple(self._level(time.reshape(-1)[row if time.numel() > 1 else 0]) for time in times)
                  for row in range(rows)]
        found = torch.tensor([list(rule(level)) for level in levels], dtype=torch.float64, device="cpu")
        return list(found.T.reshape(-1, rows, *[1] * (self.z.ndim - 1)))

    def _level(self, time: Tensor) -> tuple[float, float]:
        if type(time) is Moment and time.schedule is self.schedule:
            return time.numbers
        level = self.schedule.level(time)
        return float(level.signal), float(level.noise)


class Rule(ABC):
    """A sampler's rule. One subclass is one file; rules know neither the grid of times nor the loop."""

    order: int  # of the global error in the step, on smooth problems
    stochastic: bool = False
    calls: int = 1  # of the denoiser, a step
    memory: int = 0  # past estimates that a step looks at
    spacing: str = "angle"  # of the grid that suits the rule

    @abstractmethod
    def advance(self, step: Step) -> Tensor:
        """z_s from z_t.

        Args:
            step: the step to take.

        Returns:
            (B, ...) latents at time s.
        """


def rotate(step: Step, v: Tensor) -> Tensor:
    """z_s when v turns with the rotation, that is when x-hat and eps-hat stay as they are.

    With y = z / hypot(signal, noise) and h = angle_s - angle_t:  y_s = cos(h) y_t + sin(h) v.

    Args:
        step: the step to take.
        v: (B, ...) velocity at time t.
    """
    factors = step.factors(lambda levels: turned(*levels), (step.s, step.t))
    return combine(factors, [Estimate(step.z, step.estimate.level, v)])


def turned(whither: tuple[float, float], whence: tuple[float, float]) -> tuple[float, float]:
    """Factors of z and v in z_s when x-hat and eps-hat stay as they are; (signal, noise) of s and of t."""
    turn = math.atan2(whither[1], whither[0]) - math.atan2(whence[1], whence[0])
    radius = math.hypot(*whither)
    return radius * math.cos(turn) / math.hypot(*whence), radius * math.sin(turn)


def readings(signal: float, noise: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Factors of z and v in x-hat, and those in eps-hat, at one level."""
    radius = math.hypot(signal, noise)
    return (signal / radius**2, -noise / radius), (noise / radius**2, signal / radius)


def combine(factors: Sequence[float] | Sequence[Tensor], seen: Sequence[Estimate]) -> Tensor:
    """The sum of z and v of each estimate times a factor each, (z, v, z, v, ...), in float32 at least.

    Args:
        factors: two a estimate: numbers, or tensors that broadcast against z.
        seen: estimates of one shape, at least one.

    Raises:
        ValueError: no estimate.
    """
    like, kind = seen[0].z, seen[0].z.dtype
    wide = kind if kind.itemsize > 2 else torch.float32
    total: Tensor | None = None
    for factor, value in zip(factors, [part for one in seen for part in (one.z, one.v)], strict=True):
        if isinstance(factor, Tensor):
            term = factor.to(like.device, wide) * value
            total = term if total is None else total + term
        elif total is None:
            total = torch.mul(value if wide is kind else value.to(wide), factor)
        elif factor:
            total.add_(value, alpha=factor)
    if total is None:
        raise ValueError("seen is empty; a step needs at least one estimate")
    return total if wide is kind else total.to(kind)

