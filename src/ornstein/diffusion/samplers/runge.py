"""Runge-Kutta rules in the angle: steps that remember nothing, for any tableau."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["CLASSIC", "EULER", "RungeKutta"]

EULER = (((),), (1.0,))
CLASSIC = (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))  # Kutta's of order 4


class RungeKutta(Rule):
    """dy / d(angle) = v of y = z / hypot(signal, noise), by an explicit tableau.

    A stage at angle_t + c h is v there, where y is that of t plus h times a mean of the stages before.

    The step to clean data takes x-hat, which near clean data is even in the angle a, carried on along a^2 from the
    step before: x-hat + (x-hat - x-hat before) a^2 / (a_before^2 - a^2), of fourth order in the step.

    Args:
        stages: for each stage the factors of those before; their sum is the stage's node c.
        shares: of the stages in the step.
        order: of the tableau, at most 4.

    Raises:
        ValueError: a tableau that is not explicit or whose shares do not add to 1.
    """

    memory = 1
    spacing = "power"

    def __init__(self, stages: Sequence[Sequence[float]], shares: Sequence[float], order: int) -> None:
        if [len(stage) for stage in stages] != list(range(len(shares))) or abs(sum(shares) - 1) > 1e-12:
            raise ValueError(f"stages have {[len(stage) for stage in stages]} factors and shares add to {sum(shares)}; "
                             f"they must be 0, 1, 2, ... and 1")
        self.stages, self.shares, self.order, self.calls = tuple(stages), tuple(shares), order, len(shares)

    def advance(self, step: Step) -> Tensor:
        last = step.clean()
        clean = step.estimate.x if last is None else self._clean(step)
        if last is True:
            return clean
        # Rows that go to clean data need no stages; half way is as good a place as any to ask for them.
        goal = step.s if last is None else torch.where(step.s == 0, step.t / 2, step.s)
        here, there = step.angle(step.t), step.angle(goal)
        y, found = step.z / step.level(step.t).radius, [step.estimate.v]
        for factors in self.stages[1:]:
            angle = here + sum(factors) * (there - here)
            time = goal if sum(factors) == 1 else step.time_of(angle)
            mean = sum(factor * v for factor, v in zip(factors, found, strict=True) if factor)
            moved = y + (there - here).to(y) * mean
            found.append(step.denoise(step.level(time).radius * moved, time).v)
        slope = sum(share * v for share, v in zip(self.shares, found, strict=True))
        ahead = step.level(goal).radius * (y + (there - here).to(y) * slope)
        return ahead if last is None else torch.where(last, clean, ahead)

    def _clean(self, step: Step) -> Tensor:
        x = step.estimate.x
        if self.order < 3:
            return x
        for time, before in step.past:
            now, then = step.angle(step.t) ** 2, step.angle(time) ** 2
            # Where the step before was shorter than this one, carrying on would blow x-hat's errors up.
            x = x + torch.where(then > 2 * now, now / (then - now), 0.0).to(x) * (x - before.x)
        return x
