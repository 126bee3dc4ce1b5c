"""Ancestral sampling: draw from the reverse decoder, step by step (section 20.2; Ho et al. 2020)."""

from __future__ import annotations

import math

from torch import Tensor

from ornstein.arguments import require
from ornstein.diffusion.decoder import VARIANCES
from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["Ancestral"]


class Ancestral(Rule):
    """z_s ~ p(z_s | z_t, w) of `Decoder`: the mean (20.16) of x-hat, and noise of the variance (20.17) or beta.

    With keep = signal_t / signal_s and added = noise_t^2 - keep^2 noise_s^2,

        z_s = (keep noise_s^2 z_t + added signal_s x-hat) / noise_t^2 + std eps,

    where std^2 is added noise_s^2 / noise_t^2 or added. The last step, to s = 0, takes the mean.

    Args:
        variance: "posterior" or "beta", as for `Decoder`.

    Raises:
        ValueError: an unknown variance.
    """

    order = 1
    stochastic = True
    spacing = "log_snr"

    def __init__(self, variance: str = "posterior") -> None:
        self.variance = require("variance", variance, VARIANCES)

    def advance(self, step: Step) -> Tensor:
        s, t = step.s, step.t
        keep = t.signal / s.signal
        added = max(t.noise**2 - keep**2 * s.noise**2, 0.0)
        std = math.sqrt(added) * (1.0 if self.variance == "beta" else s.noise / t.noise)
        return step.mix(z=keep * (s.noise / t.noise) ** 2, x=added / t.noise / t.noise * s.signal,
                        fresh=0.0 if step.last else std)
