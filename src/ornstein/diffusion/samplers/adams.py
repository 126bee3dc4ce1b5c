"""Adams' rule on the rotation: second order with one call per step, by reusing the previous call."""

from __future__ import annotations

from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["Adams"]


class Adams(Rule):
    """Adams-Bashforth of order 2 in the frame that rotates with DDIM, for variable step sizes.

    The previous velocity, rotated forward to t, gives the slope of v in that frame; the step extrapolates v half a step
    ahead: v + (h / 2k) (v - v_before), with h the angle of this step and k that of the previous one. The first step is
    one of `DDIM`, and so is the step to clean data, for the reason given in `Heun`.
    """

    order = 2
    memory = 1

    def advance(self, step: Step) -> Tensor:
        share = 0.0
        for before in (call.at for call in step.past):
            h, k = step.s.angle - step.t.angle, step.t.angle - before.angle
            # Very near pure noise two times may have the same angle in float64, which gives no slope.
            share = h / (2 * k) if k and not step.last else 0.0
        return step.turn(1 + share, -share) if share else step.turn(1.0)
