"""DDIM: constant x-hat and eps-hat, with any amount of fresh noise (Song et al. 2021)."""

from __future__ import annotations

import math

from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["DDIM"]


class DDIM(Rule):
    """z_s = signal_s x-hat + sqrt(noise_s^2 - std^2) eps-hat + std eps, where std = eta sqrt(posterior variance).

    With eta = 0 it is deterministic, of first order, and a rotation of y by the velocity; with eta = 1 it is
    `Ancestral`.

    Args:
        eta: share of the posterior's deviation (20.17) that is drawn as fresh noise, in [0, 1].

    Raises:
        ValueError: an eta outside [0, 1].
    """

    order = 1

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}; it must lie in [0, 1]")
        self.eta, self.stochastic = float(eta), eta > 0
        self.spacing = "log_snr" if eta else "angle"

    def advance(self, step: Step) -> Tensor:
        s, t = step.s, step.t
        # Posterior variance (20.17), with keep = signal_t / signal_s: noise_s^2 (1 - keep^2 noise_s^2 / noise_t^2).
        std = self.eta * s.noise * math.sqrt(max(1 - (t.signal / s.signal * s.noise / t.noise) ** 2, 0.0))
        return step.mix(x=s.signal, eps=math.sqrt(s.noise**2 - std**2), fresh=std)
