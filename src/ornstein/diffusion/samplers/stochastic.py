"""Stochastic multistep rules, which remove and add noise in one step (SDE-DPM-Solver++, SA-Solver)."""

from __future__ import annotations

import math

from torch import Tensor

from ornstein.diffusion.samplers.multistep import adams
from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["StochasticAdams"]


class StochasticAdams(Rule):
    """Adams' rule for x-hat in the log SNR on a flow with noise of any strength (Xue et al. 2023, SA-Solver).

    With p = log(signal / noise), h = p_s - p_t and k = 1 + tau^2,

        z_s = (noise_s / noise_t) e^(-tau^2 h) z_t + noise_s k int e^(k (p - p_s)) e^(p_s) x(p) dp
              + noise_s sqrt(1 - e^(-2 tau^2 h)) eps,

    with x(p) the line through this x-hat and, at order 2, the one before. tau = 0 is `Multistep("x")`, tau = 1 the
    reverse diffusion of section 20.3, where order 1 is `Ancestral` and order 2 SDE-DPM-Solver++(2M) of Lu et al. 2022.
    The step to clean data takes x-hat, and a step from pure noise uses no earlier call.
    """

    stochastic = True
    spacing = "log_snr"

    def __init__(self, order: int = 2, tau: float = 1.0) -> None:
        if order not in (1, 2):
            raise ValueError(f"order is {order}; it must be 1 or 2")
        if not 0 <= tau < math.inf:
            raise ValueError(f"tau is {tau}; it must be at least 0")
        self.order, self.tau, self.memory = order, float(tau), order - 1

    def advance(self, step: Step) -> Tensor:
        s, t, tau2 = step.s, step.t, self.tau**2
        if step.last:
            return step.estimate.x
        if not math.isfinite(t.log_ratio):
            # From pure noise: all noise is fresh if tau > 0; otherwise a step of `DDIM`.
            return step.mix(x=s.signal, fresh=s.noise) if tau2 else step.mix(z=s.noise / t.noise, x=s.signal)
        h, nodes = s.log_ratio - t.log_ratio, [t.log_ratio]
        for before in (call.at.log_ratio for call in step.past):
            if math.isfinite(before) and before != t.log_ratio:
                nodes.append(before)
        # Relative to the end of the step, so that no exponential overflows.
        weights = adams([p - s.log_ratio for p in nodes], -h, 0.0, 1 + tau2)
        return step.mix(z=s.noise / t.noise * math.exp(-tau2 * h),
                        x=[s.signal * (1 + tau2) * weight for weight in weights],
                        fresh=s.noise * math.sqrt(-math.expm1(-2 * tau2 * h)))
