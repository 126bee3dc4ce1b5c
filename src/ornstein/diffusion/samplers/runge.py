"""Runge-Kutta rules in the angle: one-step rules for any tableau."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ornstein.diffusion.samplers.rule import Call, Rule, Step

__all__ = ["CLASSIC", "EULER", "RungeKutta"]

EULER = (((),), (1.0,))
CLASSIC = (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))  # Kutta's of order 4


class RungeKutta(Rule):
    """dy / d(angle) = v of y = z / hypot(signal, noise), by an explicit tableau of order up to 4.

    The stage at angle_t + c h is v at y_t plus h times the earlier stages weighted by the factors in `stages`, whose
    sum is c; the step takes the stages weighted by `shares`.

    The step to clean data takes x-hat, which is even in the angle a near clean data, extrapolated in a^2 from the step
    before: x-hat + (x-hat - x-hat_before) a^2 / (a_before^2 - a^2), of fourth order in the step.
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
            return self._last_step(step)
        s, t = step.s, step.t
        h, stages = s.angle - t.angle, [step.calls[0]]
        for factors in self.stages[1:]:
            c = sum(factors)
            moment = s if c == 1 else step.level(step.schedule.time_at(t.angle + c * h))
            z = step.mix(z=moment.radius / t.radius, v=[moment.radius * h * factor for factor in factors], calls=stages)
            stages.append(Call(moment, step.denoise(z, moment)))
        return step.mix(z=s.radius / t.radius, v=[s.radius * h * share for share in self.shares], calls=stages)

    def _last_step(self, step: Step) -> Tensor:
        x = step.estimate.x
        if self.order < 3:
            return x
        for at, before in step.past:
            a2, a2_before = step.t.angle**2, at.angle**2
            # If the previous step was shorter than this one, extrapolation would amplify the errors of x-hat.
            if a2_before > 2 * a2:
                x = x + a2 / (a2_before - a2) * (x - before.x)
        return x
