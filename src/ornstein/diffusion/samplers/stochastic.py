"""Stochastic multistep rules: noise is taken out and put back in one step (SDE-DPM-Solver++, SA-Solver)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.diffusion.samplers.multistep import View, adams, view
from ornstein.diffusion.samplers.rule import Rule, Step, combine, readings

__all__ = ["StochasticAdams"]


class StochasticAdams(Rule):
    """Adams' rule for x-hat in the log SNR on a flow with noise of any strength (Xue et al. 2023, SA-Solver).

    With p = log(signal / noise), h = p_s - p_t and k = 1 + tau^2,

        z_s = (noise_s / noise_t) e^(-tau^2 h) z_t + noise_s k int e^(k (p - p_s)) e^(p_s) x(p) dp
              + noise_s sqrt(1 - e^(-2 tau^2 h)) eps,

    with x(p) the line through this x-hat and the one before. tau = 0 is `Multistep("x")`, tau = 1 the reverse
    diffusion of section 20.3, where order 1 is `Ancestral` and order 2 SDE-DPM-Solver++(2M) of Lu et al. 2022.
    The step to clean data takes x-hat, and a step from pure noise looks at no call before it.

    Args:
        order: 1 or 2, of the mean.
        tau: strength of the noise, >= 0.

    Raises:
        ValueError: another order, or a tau that is negative or infinite.
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
        last = step.clean()
        if last is True:
            return step.estimate.x
        seen = [step.estimate, *(estimate for _, estimate in step.past)]
        times = [step.s, step.t, *(time for time, _ in step.past)]
        *factors, std = step.factors(self._weights, times)
        ahead = combine(factors, seen)
        fresh = step.noise()
        ahead = ahead + (std.to(fresh) if isinstance(std, Tensor) else std) * fresh
        return ahead if last is None else torch.where(last, step.estimate.x, ahead)

    def _weights(self, levels: Sequence[tuple[float, float]]) -> list[float]:
        """Factors of z and v of each call in the mean of z_s, and the deviation of the noise."""
        (signal_s, noise_s), (signal_t, noise_t), *_ = levels
        goal, *nodes = (view("x", 1.0, *level) for level in levels)
        zero = [0.0] * (2 * len(nodes) - 2)
        if not goal.usable():
            return [0.0, 0.0, *zero, 0.0]
        if not nodes[0].usable():
            # From pure noise: all of it is new where tau > 0, and turned by `DDIM` where not.
            share = 0.0 if self.tau else noise_s / noise_t
            x, _ = readings(signal_t, noise_t)
            return [share + signal_s * x[0], signal_s * x[1], *zero, noise_s if self.tau else 0.0]
        h, square = goal.place - nodes[0].place, self.tau**2
        known: list[View] = nodes[:1]
        if len(nodes) > 1 and nodes[1].usable() and nodes[0].place != nodes[1].place:
            known = nodes
        # Relative to the end of the step, so that no exponential grows.
        weights = adams([node.place - goal.place for node in known], -h, 0.0, 1 + square)
        found = [signal_s * (1 + square) * weight * part for weight, node in zip(weights, known, strict=True)
                 for part in (node.of_z, node.of_v)] + [0.0] * 2 * (len(nodes) - len(known))
        found[0] += noise_s / noise_t * math.exp(-square * h)
        return [*found, noise_s * math.sqrt(-math.expm1(-2 * square * h))]
