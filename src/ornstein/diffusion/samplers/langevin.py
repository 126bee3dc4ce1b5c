"""Predictor and corrector: a step of DDIM, then one of Langevin dynamics (section 20.3; Song et al. 2021)."""

from __future__ import annotations

import math

from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["Langevin"]


class Langevin(Rule):
    """z + size noise^2 score + sqrt(2 size - size^2) noise eps at s, after a step of `DDIM` to s; 0 < size <= 1.

    As score = -eps-hat / noise, this replaces part of eps-hat by fresh noise. The term size^2, which Langevin dynamics
    lacks, makes the step exact for data of one point; the law at s changes by less than size^2. The step to clean data
    takes x-hat.
    """

    order = 1
    calls = 2
    stochastic = True

    def __init__(self, size: float = 0.1) -> None:
        if not 0 < size <= 1:
            raise ValueError(f"size is {size}; it must lie in (0, 1]")
        self.size = float(size)

    def advance(self, step: Step) -> Tensor:
        s, size = step.s, self.size
        z = step.mix(x=s.signal, eps=s.noise)
        if step.last:
            return z
        return z + s.noise * (math.sqrt(2 * size - size**2) * step.noise() - size * step.denoise(z, s).eps)
