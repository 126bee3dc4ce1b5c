"""DPM-Solver++(2M): second order in the log SNR with one call per step (Lu et al. 2022, algorithm 2)."""

from __future__ import annotations

import math

from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["DPM"]


class DPM(Rule):
    """z_s = (noise_s / noise_t) z_t + (signal_s - signal_t noise_s / noise_t) D, exact when D = x-hat is constant.

    D extrapolates half a step ahead along the line through this x-hat and the one before, in the log SNR. A step from
    pure noise or to clean data is infinitely long in the log SNR, where extrapolation is useless: there D = x-hat.
    The order is that in the largest step of the log SNR; the "log_snr" grid also widens as it is refined, which costs
    a factor log(steps)^2.
    """

    order = 2
    memory = 1
    spacing = "log_snr"

    def advance(self, step: Step) -> Tensor:
        s, t = step.s, step.t
        keep = s.noise / t.noise
        gain, share = s.signal - t.signal * keep, 0.0
        for before in (call.at for call in step.past):
            ahead, behind = s.log_ratio - t.log_ratio, t.log_ratio - before.log_ratio
            if math.isfinite(ahead) and math.isfinite(behind) and behind:
                share = ahead / (2 * behind)
        return step.mix(z=keep, x=(gain * (1 + share), -gain * share) if step.past else gain)
