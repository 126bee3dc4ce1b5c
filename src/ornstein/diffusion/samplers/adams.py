"""Adams' rule on the rotation: second order from one call a step, by remembering the call before."""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step, rotate

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
        v = step.estimate.v
        for time, before in step.past:
            behind, ahead = step.angle(step.t) - step.angle(time), step.angle(step.s) - step.angle(step.t)
            y = before.z / step.level(time).radius
            turned = behind.cos().to(v) * before.v - behind.sin().to(v) * y
            # Nearer to pure noise than float64 can tell, two times have one angle: the one before teaches nothing.
            share = torch.where((step.angle(step.s) == 0) | (behind == 0), 0.0, ahead / (2 * behind))
            v = v + share.to(v) * (v - turned)
        return rotate(step, v)
