"""One-step DPM-Solver and DPM-Solver++: the exponential midpoint rule in the log SNR (Lu et al. 2022)."""

from __future__ import annotations

from torch import Tensor

from ornstein.arguments import require
from ornstein.diffusion.samplers.multistep import LONG_STEP
from ornstein.diffusion.samplers.rule import Call, Rule, Step

__all__ = ["SingleStep"]

FRAMES = ("x", "eps")


class SingleStep(Rule):
    """A call at the midpoint of the step in the log SNR, and then the full step with that call's estimate.

    frame "eps" is DPM-Solver-2: z_s = (signal_s / signal_t) z_t + (noise_s - noise_t signal_s / signal_t) eps-hat;
    frame "x" is DPM-Solver++(2S): z_s = (noise_s / noise_t) z_t + (signal_s - signal_t noise_s / noise_t) x-hat; both
    with the estimate at the midpoint, which a step of `DDIM` reaches.

    A step from pure noise or to clean data is infinitely long in the log SNR, and is one of `DDIM`; so is one longer
    than 5 in log(signal / noise), which would lose digits by cancellation.
    """

    order = 2
    calls = 2
    spacing = "log_snr"

    def __init__(self, frame: str) -> None:
        self.frame = require("frame", frame, FRAMES)

    def advance(self, step: Step) -> Tensor:
        s, t = step.s, step.t
        h = s.log_ratio - t.log_ratio
        if not 0 < h <= LONG_STEP:
            return step.turn(1.0)
        middle = step.level(step.schedule.time(s.log_ratio + t.log_ratio))
        half = Call(middle, step.denoise(step.to(middle).turn(1.0), middle))
        if self.frame == "x":
            keep = s.noise / t.noise
            return step.mix(z=keep, x=s.signal - t.signal * keep, calls=[half])
        keep = s.signal / t.signal
        return step.mix(z=keep, eps=s.noise - t.noise * keep, calls=[half])
