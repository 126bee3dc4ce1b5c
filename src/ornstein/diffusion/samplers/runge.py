"""Runge-Kutta rules in the angle: steps that remember nothing, for any tableau."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ornstein.diffusion.samplers.rule import Call, Rule, Step

__all__ = ["CLASSIC", "EULER", "RungeKutta"]

EULER = (((),), (1.0,))
CLASSIC = (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))  # Kutta's of order 4


class RungeKutta(Rule):
    """dy / d(angle) = v of y = z / hypot(signal, noise), by an explicit tableau of an order up to 4.

    A stage at angle_t + c h is v there, where y is that of t plus h times a mean of the stages before, by the factors
    in `stages`, whose sum is c; the step takes the mean of all stages by `shares`.

    The step to clean data takes x-hat, which near clean data is even in the angle a, carried on along a^2 from the step
    before: x-hat + (x-hat - x-hat before) a^2 / (a_before^2 - a^2), of fourth order in the step.
    """

    memory = 1
    spacing = "power"

    def __init__(self, stages: Sequence[Sequence[float]], shares: Sequence[float], order: int) -> None:
        if [len(stage) for stage in stages] != list(range(len(shares))) or abs(sum(shares) - 1) > 1e-12:
            raise ValueError(f"stages have {[len(stage) for stage in stages]} factors and shares add to {sum(shares)}; "
                             f"they must be 0, 1, 2, ... and 1")
        self.stages, self.shares, self.order, self.calls = tuple(stages), tuple(shares), order, len(shares)

    def advance(self, step: Step) -> Tensor:
        if step.last:
            return self._clean(step)
        s, t = step.s, step.t
        h, stages = s.angle - t.angle, [step.calls[0]]
        for factors in self.stages[1:]:
            node = sum(factors)
            to = s if node == 1 else step.level(step.schedule.time_at(t.angle + node * h))
            z = step.mix(z=to.radius / t.radius, v=[to.radius * h * factor for factor in factors], calls=stages)
            stages.append(Call(to, step.denoise(z, to)))
        return step.mix(z=s.radius / t.radius, v=[s.radius * h * share for share in self.shares], calls=stages)

    def _clean(self, step: Step) -> Tensor:
        x = step.estimate.x
        if self.order < 3:
            return x
        for at, before in step.past:
            now, then = step.t.angle**2, at.angle**2
            # Where the step before was shorter than this one, carrying on would blow x-hat's errors up.
            if then > 2 * now:
                x = x + now / (then - now) * (x - before.x)
        return x
