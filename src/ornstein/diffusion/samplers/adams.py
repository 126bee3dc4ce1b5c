"""Adams' rule on the rotation: second order from one call a step, by remembering the call before."""

from __future__ import annotations

from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["Adams"]


class Adams(Rule):
    """Adams-Bashforth of order 2 in the frame that turns with DDIM, for steps of any sizes.

    The velocity before, turned forward to t, gives the slope of v in that frame; the step uses v half a step ahead:
    v + (h / 2k) (v - v_before), with h the angle ahead and k the angle behind. The first step is one of `DDIM`, and so
    is the step to clean data, for the reason given in `Heun`.
    """

    order = 2
    memory = 1

    def advance(self, step: Step) -> Tensor:
        share = 0.0
        for before in (call.at for call in step.past):
            ahead, behind = step.s.angle - step.t.angle, step.t.angle - before.angle
            # Nearer to pure noise than float64 can tell, two times have one angle: the one before teaches nothing.
            share = ahead / (2 * behind) if behind and not step.last else 0.0
        return step.turn(1 + share, -share) if share else step.turn(1.0)
