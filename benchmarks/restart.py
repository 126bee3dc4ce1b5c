"""Restart over an interval (Xu et al. 2023) beside our rules, on a model of the digits: distance to the held-out ones.

A losing experiment: it is no rule of `ornstein.samplers()`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from judges import Judge
from torch import Tensor

import ornstein as orn
from ornstein.diffusion.encoder import draw
from ornstein.diffusion.samplers.rule import Rule, Step

WIDEST, FINEST, RHO = 80.0, 0.02, 7.0  # ends of the grid in noise / signal, and its exponent, as in EDM
TRIALS = ((10, 3, 0.2, 2.0, 3), (10, 3, 0.5, 5.0, 3), (14, 2, 0.3, 3.0, 3))  # steps, rounds, low, high, steps a round
RIVALS = (("auto", 8), ("auto", 40), ("sa", 40), ("edm", 40), ("dpm++sde", 40))


def between(schedule: orn.Schedule, high: float, low: float, steps: int) -> Tensor:
    """Times even in (noise / signal)^(1 / 7) from `high` to `low`, (steps + 1,) float64."""
    roots = torch.linspace(high ** (1 / RHO), low ** (1 / RHO), steps + 1, dtype=torch.float64)
    return schedule.time(-2 * RHO * roots.log())


class Restart(Rule):
    """Heun in noise / signal; having reached `low`, noise back to `high` and down to `low` again, some times."""

    order, calls, stochastic = 2, 2, True

    def __init__(self, low: Tensor, again: Tensor, rounds: int) -> None:
        self.low, self.again, self.rounds = float(low), again, rounds

    def advance(self, step: Step) -> Tensor:
        z = self._down(step)
        if float(step.s) != self.low:
            return z
        for _ in range(self.rounds):
            z = draw(orn.Encoder(step.schedule).step(z, step.s, self.again[0]), step.noise())
            for t, s in pairwise(map(step.level, self.again)):
                z = self._down(dataclasses.replace(step, t=t, s=s, estimate=step.denoise(z, t)))
        return z

    @staticmethod
    def _down(step: Step) -> Tensor:
        if step.t == 1 or step.last:  # infinitely far in noise / signal, or where eps says nothing
            return step.turn(1.0)
        now, then = step.t, step.s
        length = then.noise / then.signal - now.noise / now.signal
        y, slope = step.z / now.signal, step.estimate.eps
        ahead = step.denoise((y + length * slope) * then.signal, step.s).eps
        return (y + length * (slope + ahead) / 2) * then.signal


def main() -> None:
    """The mean distance over the noises and its standard error, a line a way of drawing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="of `ornstein train digits --config recipes/digits.yaml --out RUN`")
    parser.add_argument("--noises", type=int, default=6)
    asked = parser.parse_args()
    model, data = orn.load(asked.run), orn.load_data("digits")
    judged, labels = Judge(data), torch.arange(2000) % 10

    def judge(name: str, calls: int, **walk: object) -> None:
        found = []
        for seed in range(asked.noises):
            z = torch.randn(len(labels), *model.shape, generator=torch.Generator().manual_seed(seed))
            x = orn.sample(model, z=z, condition=labels, seed=seed, **walk)
            found.append(judged.distance(judged.rounded(x)))
        error = np.std(found, ddof=1) / math.sqrt(len(found))
        print(f"{name:32s} {calls:3d} calls  {np.mean(found):.4f}±{error:.4f}", flush=True)

    for steps, rounds, low, high, inner in TRIALS:
        grid = between(model.schedule, WIDEST, FINEST, steps)
        near = grid[(grid - model.schedule.time(torch.tensor(-2 * math.log(low)))).abs().argmin()]
        reached = float(torch.exp(-model.schedule.log_snr(near) / 2))
        again = torch.cat([between(model.schedule, high, reached, inner)[:-1], near[None]])
        times = torch.cat([torch.ones(1), grid, torch.zeros(1)])
        judge(f"restart {rounds} times, {low} to {high}", 2 * steps + 2 + 2 * rounds * inner,
              sampler=Restart(near, again, rounds), times=times)
    for name, calls in RIVALS:
        judge(name, calls, sampler=name, nfe=calls)


if __name__ == "__main__":
    main()
