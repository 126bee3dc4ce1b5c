"""DPM-Solver and DPM-Solver++ of one step: the exponential midpoint rule in the log SNR (Lu et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.diffusion.samplers.multistep import LONG
from ornstein.diffusion.samplers.rule import Rule, Step, combine, readings, turned
from ornstein.names import require

__all__ = ["SingleStep"]

FRAMES = ("x", "eps")


class SingleStep(Rule):
    """A call half way through the step in the log SNR, and from there the whole step with that call's answer.

    frame "eps" is DPM-Solver-2: z_s = (signal_s / signal_t) z_t + (noise_s - noise_t signal_s / signal_t) eps-hat;
    frame "x" is DPM-Solver++(2S): z_s = (noise_s / noise_t) z_t + (signal_s - signal_t noise_s / noise_t) x-hat; both
    with the answer of half way, which a step of `DDIM` finds.

    A step from pure noise or to clean data is infinitely long in the log SNR, and is one of `DDIM`; so is one longer
    than 5 in log(signal / noise), which would lose as many digits in a difference.

    Args:
        frame: "x" or "eps", what is taken to stay as it is.

    Raises:
        ValueError: an unknown frame.
    """

    order = 2
    calls = 2
    spacing = "log_snr"

    def __init__(self, frame: str) -> None:
        self.frame = require("frame", frame, FRAMES)

    def advance(self, step: Step) -> Tensor:
        straight = combine(step.factors(lambda levels: turned(*levels), [step.s, step.t]), [step.estimate])
        here, there = step.schedule.log_snr(step.t), step.schedule.log_snr(step.s)
        halves = (here + there) / 2
        inside = halves.isfinite() & (here < there) & (there - here <= 2 * LONG)
        if not inside.any():
            return straight
        middle = torch.where(inside, step.schedule.time(torch.where(inside, halves, 0.0)), step.t)
        z = combine(step.factors(lambda levels: turned(*levels), [middle, step.t]), [step.estimate])
        half = step.denoise(z, middle)
        whole = combine(step.factors(self._weights, [step.s, step.t, middle]), [step.estimate, half])
        if inside.all():
            return whole
        return torch.where(inside.reshape(-1, *[1] * (z.ndim - 1)).to(z.device), whole, straight)

    def _weights(self, levels: Sequence[tuple[float, float]]) -> list[float]:
        (signal_s, noise_s), (signal_t, noise_t), (signal, noise) = levels
        x, eps = readings(signal, noise)
        if self.frame == "x":
            keep = noise_s / noise_t
            share = signal_s - signal_t * keep
            return [keep, 0.0, share * x[0], share * x[1]]
        keep = signal_s / signal_t if signal_t else 0.0
        share = noise_s - noise_t * keep
        return [keep, 0.0, share * eps[0], share * eps[1]]
