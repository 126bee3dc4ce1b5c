"""What a sampler is: a rule that takes one step back, given the denoiser's estimate where it stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.schedule import Level, Schedule, spread

__all__ = ["Rule", "Step", "rotate"]


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


class Rule(ABC):
    """A sampler's rule. One subclass is one file; rules know neither the grid of times nor the loop."""

    order: ClassVar[int]  # of the global error in the step, on smooth problems
    stochastic: ClassVar[bool] = False
    calls: ClassVar[int] = 1  # of the denoiser, a step
    memory: ClassVar[int] = 0  # past estimates that a step looks at
    spacing: ClassVar[str] = "angle"  # of the grid that suits the rule

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
    turn = step.angle(step.s) - step.angle(step.t)
    radius_t, radius_s = step.level(step.t).radius, step.level(step.s).radius
    return radius_s * (turn.cos().to(v) * step.z / radius_t + turn.sin().to(v) * v)
