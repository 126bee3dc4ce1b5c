"""DDIM: the deterministic sampler that turns x-hat and eps-hat as they are (Song et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step, rotate

__all__ = ["DDIM"]


class DDIM(Rule):
    """z_s = signal_s x-hat + noise_s eps-hat: first order, a plain rotation of y by the velocity."""

    order = 1

    def advance(self, step: Step) -> Tensor:
        return rotate(step, step.estimate.v)
