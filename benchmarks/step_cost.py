"""What a sampler costs beside the network: seconds a step on a denoiser that costs nothing, and of its arithmetic."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import diffusers
import torch
from torch import Tensor

import ornstein as orn
from ornstein.diffusion.samplers.learned import Learned
from ornstein.diffusion.samplers.loop import SAMPLERS, auto_rule

SHAPE = (3, 32, 32)
PAIRS = {"ddim": diffusers.DDIMScheduler, "dpm++": diffusers.DPMSolverMultistepScheduler,
         "unipc": diffusers.UniPCMultistepScheduler, "deis": diffusers.DEISMultistepScheduler,
         "auto": diffusers.DPMSolverMultistepScheduler, "learned": diffusers.DPMSolverMultistepScheduler}
FEW = 6  # steps of a walk by a learned rule, and of the scheduler beside it
TERMS = {"ddim": 2, "dpm++": 4, "unipc": 6, "deis": 6, "auto": 8, "learned": FEW + 1}  # z and v that a step looks at


class Free(orn.Denoiser):
    """Answers with a tensor that is already there."""

    def __init__(self, rows: int) -> None:
        super().__init__(orn.Chain.linear(), SHAPE)
        self.v = torch.randn(rows, *SHAPE)

    def forward(self, z: Tensor, t: Tensor, condition: object = None) -> orn.Estimate:
        return orn.Estimate(z, self.level(z, t), self.v)


class Watch:
    """Adds up the seconds that a function takes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *given: Any) -> Any:
        begin = time.perf_counter()
        answer = self.function(*given)
        self.seconds += time.perf_counter() - begin
        return answer


def ours(name: str, rows: int, steps: int) -> tuple[float, float]:
    """Seconds a step of ours: of the whole walk, and of the rule alone."""
    denoiser, z = Free(rows), torch.randn(rows, *SHAPE)
    weights = [[1 / (n + 1)] * (n + 1) for n in range(FEW)]
    rule = Learned(weights, weights) if name == "learned" else copy.copy(SAMPLERS[
        auto_rule(steps) if name == "auto" else name])
    rule.advance = watch = Watch(rule.advance)
    begin = time.perf_counter()
    orn.sample(denoiser, sampler=rule, steps=steps, z=z, batch=rows)
    return (time.perf_counter() - begin) / steps, watch.seconds / steps


def theirs(kind: type, rows: int, steps: int) -> tuple[float, float]:
    """Seconds a step of a scheduler of diffusers: of the walk, made anew as a pipeline's user does, and of `step`."""
    answer, z = torch.randn(rows, *SHAPE), torch.randn(rows, *SHAPE)
    begin = time.perf_counter()
    walker = kind(num_train_timesteps=1000)
    walker.set_timesteps(steps)
    watch = Watch(walker.step)
    for step in walker.timesteps:
        z = watch(answer, step, z).prev_sample
    return (time.perf_counter() - begin) / steps, watch.seconds / steps


def bare(terms: int, rows: int, steps: int) -> float:
    """Seconds a step of nothing but the arithmetic: so many tensors times a number each, added up."""
    parts = [torch.randn(rows, *SHAPE) for _ in range(terms)]
    begin = time.perf_counter()
    for _ in range(steps):
        z = parts[0] * 0.5
        for part in parts[1:]:
            z.add_(part, alpha=0.5)
    return (time.perf_counter() - begin) / steps


def main() -> None:
    """One line a sampler and a number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for rows in (1, 16, 64):
        for name, kind in PAIRS.items():
            steps = FEW if name == "learned" else options.steps
            ours(name, rows, steps), theirs(kind, rows, steps)
            runs = [(ours(name, rows, steps), theirs(kind, rows, steps), bare(TERMS[name], rows, steps))
                    for _ in range(options.repeats)]
            one, other = (median(run[side][0] for run in runs) for side in (0, 1))
            print(f"{rows:3d} rows  {name:7s} {1e3 * one:7.3f} ms   {kind.__name__:28s} {1e3 * other:7.3f} ms   ratio "
                  f"{median(a[0] / b[0] for a, b, _ in runs):.2f}, of the steps alone "
                  f"{median(a[1] / b[1] for a, b, _ in runs):.2f}, of the arithmetic alone "
                  f"{median(least / b[1] for _, b, least in runs):.2f}", flush=True)


if __name__ == "__main__":
    main()
