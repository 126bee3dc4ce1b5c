"""Ancestral sampling: draw from the reverse decoder, step by step (section 20.2; Ho et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.diffusion.decoder import VARIANCES, reverse_law
from ornstein.diffusion.encoder import draw
from ornstein.diffusion.samplers.rule import Rule, Step
from ornstein.diffusion.schedule import spread
from ornstein.names import require

__all__ = ["Ancestral"]


class Ancestral(Rule):
    """z_s ~ p(z_s | z_t, w) of `Decoder`; the last step, to s = 0, takes the mean.

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
        law = reverse_law(step.estimate, step.schedule, step.s, step.t, self.variance)
        if (step.s == 0).all():
            return law.mean
        last = spread((step.s == 0).double(), law.mean) > 0
        return torch.where(last, law.mean, draw(law, step.noise()))
