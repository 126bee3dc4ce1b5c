"""Heun's rule on the rotation: a step of DDIM, corrected by the velocity where it lands."""

from __future__ import annotations

from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step, rotate

__all__ = ["Heun"]


class Heun(Rule):
    """The trapezium rule in the frame that turns with DDIM (Karras et al. 2022 use it in sigma).

    In that frame a velocity that turns with the rotation is constant, so the rule is exact for fixed x-hat and
    eps-hat. The velocity at s is turned back to t, the two are averaged, and y is rotated with the average. It calls
    the denoiser at t = 0 on the last step, which a network answers and a bare data set cannot.
    """

    order = 2
    calls = 2

    def advance(self, step: Step) -> Tensor:
        ahead = step.denoise(rotate(step, step.estimate.v), step.s)
        turn = (step.angle(step.s) - step.angle(step.t))
        y = ahead.z / step.level(step.s).radius
        # v at s, seen from t: the rotation that carries (y, v) back by the angle of the step.
        back = turn.cos().to(y) * ahead.v + turn.sin().to(y) * y
        return rotate(step, (step.estimate.v + back) / 2)
