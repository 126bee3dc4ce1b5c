"""DPM-Solver++(2M): second order in the log SNR from one call a step (Lu et al. 2022, algorithm 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.diffusion.samplers.rule import Rule, Step
from ornstein.diffusion.schedule import spread

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
        level_t, level_s = step.schedule.level(step.t), step.schedule.level(step.s)
        keep = level_s.noise / level_t.noise
        guess = step.estimate.x
        for time, before in step.past:
            behind = level_t.log_snr - step.schedule.log_snr(time)
            ahead = level_s.log_snr - level_t.log_snr
            share = torch.where(behind.isfinite() & ahead.isfinite() & (behind != 0), ahead / (2 * behind), 0.0)
            guess = guess + spread(share, guess) * (guess - before.x)
        return spread(keep, guess) * step.z + spread(level_s.signal - level_t.signal * keep, guess) * guess
