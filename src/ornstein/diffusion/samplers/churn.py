"""Heun's rule with noise added after every step (Karras et al. 2022, algorithm 2; Xu et al. 2023)."""

from __future__ import annotations

import math

from torch import Tensor

from ornstein.diffusion.samplers.heun import Heun
from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["Churn"]


class Churn(Rule):
    """A step of `Heun` to less noise than at s, and fresh noise to make up the difference.

    noise / signal is reduced to 1 / (1 + amount) of its value at s, and z_s = keep z + sqrt(added) eps of
    `Encoder.step` leads back to s, if noise / signal at s lies from `least` to `most`. This is Karras' sampler, whose
    steps begin with the fresh noise, divided differently into steps, so that the call at the end of one step serves
    the next; with an amount that leads back to the start of the step it is the restart of Xu et al. over single steps.
    `amount` is gamma of Karras et al., >= 0; 0 is `Heun`.
    """

    order = 2
    calls = 2
    stochastic = True

    def __init__(self, amount: float = 0.2, least: float = 0.05, most: float = 50.0) -> None:
        if not 0 <= amount < math.inf:
            raise ValueError(f"amount is {amount}; it must be at least 0")
        if not 0 <= least <= most:
            raise ValueError(f"least is {least} and most {most}; they must satisfy 0 <= least <= most")
        self.amount, self.least, self.most, self.heun = float(amount), float(least), float(most), Heun()

    def advance(self, step: Step) -> Tensor:
        s = step.s
        if not self.amount or not self.least <= s.noise / s.signal <= self.most:
            return self.heun.advance(step)
        log_snr = 2 * (s.log_ratio + math.log1p(self.amount))
        lower = step.level(step.schedule.time(log_snr))
        z = self.heun.advance(step.to(lower))
        keep = s.signal / lower.signal
        return keep * z + math.sqrt(max(s.noise**2 - (keep * lower.noise) ** 2, 0.0)) * step.noise()
