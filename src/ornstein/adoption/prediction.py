"""Networks that map z and its time to x, eps or v: Ho et al. 2020; Salimans & Ho 2022."""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.adoption.convention import Convention
from ornstein.arguments import require
from ornstein.diffusion.estimate import READINGS, Estimate
from ornstein.diffusion.level import Level
from ornstein.diffusion.schedule import Chain, Schedule

__all__ = ["TIMES", "Prediction"]

TIMES = ("t", "index", "log_snr")
MAX_LOG_SNR = 40.0  # of a network's input, as it is infinite at exact ends


class Prediction(Convention):
    """network(z, time) is x, eps or v = c eps - s x.

    The time is t itself, the log SNR, or the `index` of a chain's step from 0 to T - 1. Index i stands for alpha[i + 1]
    of the chain, so that index = T t - 1: a fraction between nodes, and 0 within the first step.
    """

    def __init__(self, predicts: str, time: str = "t") -> None:
        self.predicts, self.time = predicts, require("time", time, TIMES)

    def check(self, schedule: Schedule) -> None:
        if self.time == "index" and not isinstance(schedule, Chain):
            raise ValueError(f"time is 'index', but schedule is {type(schedule).__name__}; only a Chain has steps to "
                             "count: give one, or time='t'")

    def network_inputs(self, level: Level, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        if self.time == "index" and isinstance(schedule, Chain):
            time = (t * schedule.T - 1).clamp(min=0)
        elif self.time == "log_snr":
            time = schedule.log_snr(t).clamp(-MAX_LOG_SNR, MAX_LOG_SNR)
        else:
            time = t
        return torch.ones_like(t), time

    def to_estimate(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:  # noqa: ARG002
        return READINGS[self.predicts](answer, z, level)
