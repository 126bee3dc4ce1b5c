"""Heun's rule on the rotation: a step of DDIM, corrected by the velocity at its end."""

from __future__ import annotations

from torch import Tensor

from ornstein.diffusion.samplers.rule import Call, Rule, Step

__all__ = ["Heun"]


class Heun(Rule):
    """The trapezoidal rule in the frame that rotates with DDIM (Karras et al. 2022 use it in sigma).

    In that frame the velocity of fixed x-hat and eps-hat is constant, so the rule is exact for them. The velocity at s
    is rotated back to t, the two are averaged, and y is rotated with the average. The step to clean data takes x-hat
    instead: data on a surface have no velocity at t = 0, and one such step keeps the order.
    """

    order = 2
    calls = 2

    def advance(self, step: Step) -> Tensor:
        if step.last:
            return step.estimate.x
        at_t, at_s = step.calls[0], Call(step.s, step.denoise(step.turn(1.0), step.s))
        return step.turn(1 / 2, 1 / 2, calls=(at_t, at_s))
