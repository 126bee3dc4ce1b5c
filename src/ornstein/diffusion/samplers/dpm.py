"""DPM-Solver++(2M): second order in the log SNR from one call a step (Lu et al. 2022, algorithm 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step, combine, readings

__all__ = ["DPM"]


class DPM(Rule):
    """z_s = (noise_s / noise_t) z_t + (signal_s - signal_t noise_s / noise_t) D, exact when D = x-hat is constant.

    D looks half a step ahead along the line through this x-hat and the one before, in the log SNR. A step from pure
    noise or to clean data is infinitely long in the log SNR, where such a line says nothing: there D = x-hat.
    The order is that in the largest step of the log SNR; the "log_snr" grid also widens as it is refined, which takes
    a factor log(steps)^2 of it.
    """

    order = 2
    memory = 1
    spacing = "log_snr"

    def advance(self, step: Step) -> Tensor:
        seen = [step.estimate, *(estimate for _, estimate in step.past)]
        return combine(step.factors(self._weights, [step.s, step.t, *(time for time, _ in step.past)]), seen)

    def _weights(self, levels: Sequence[tuple[float, float]]) -> list[float]:
        """Factors of z and v of each call."""
        (signal_s, noise_s), (signal_t, noise_t), *before = levels
        keep = noise_s / noise_t
        gain, share = signal_s - signal_t * keep, 0.0
        places = [math.log(signal / noise) if signal > 0 and noise > 0 else math.inf for signal, noise in levels]
        if before and math.isfinite(sum(places)) and places[1] != places[2]:
            share = (places[0] - places[1]) / (2 * (places[1] - places[2]))
        (now_z, now_v), _ = readings(signal_t, noise_t)
        found = [keep + gain * (1 + share) * now_z, gain * (1 + share) * now_v]
        for level in before:
            found += [-gain * share * part for part in readings(*level)[0]]
        return found
