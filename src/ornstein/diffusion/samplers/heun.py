"""Heun's rule on the rotation: a step of DDIM, corrected by the velocity where it lands."""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step, rotate
from ornstein.diffusion.schedule import spread

__all__ = ["Heun"]


class Heun(Rule):
    """The trapezium rule in the frame that turns with DDIM (Karras et al. 2022 use it in sigma).

    In that frame a velocity that turns with the rotation is constant, so the rule is exact for fixed x-hat and
    eps-hat. The velocity at s is turned back to t, the two are averaged, and y is rotated with the average. The step
    to clean data takes x-hat instead: data on a surface have no velocity at t = 0, and one such step keeps the order.
    """

    order = 2
    calls = 2

    def advance(self, step: Step) -> Tensor:
        v, first = step.estimate.v, rotate(step, step.estimate.v)
        if (step.s == 0).all():
            return first
        ahead, turn = step.denoise(first, step.s), step.angle(step.s) - step.angle(step.t)
        # The rotation that carries (y, v) at s back by the angle of the step.
        back = turn.cos().to(v) * ahead.v + turn.sin().to(v) * ahead.z / step.level(step.s).radius
        return rotate(step, torch.where(spread(step.s == 0, v).bool(), v, (v + back) / 2))
