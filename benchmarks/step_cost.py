"""What a sampler costs beside the network: seconds a step on a denoiser that costs next to nothing."""

from __future__ import annotations

import argparse
import time
from statistics import median

import diffusers
import torch
from torch import Tensor

import ornstein as orn

SHAPE = (3, 32, 32)
PAIRS = {"ddim": diffusers.DDIMScheduler, "dpm++": diffusers.DPMSolverMultistepScheduler,
         "unipc": diffusers.UniPCMultistepScheduler, "deis": diffusers.DEISMultistepScheduler,
         "auto": diffusers.DPMSolverMultistepScheduler}


class Free(orn.Denoiser):
    """Answers with a tensor that is already there."""

    def __init__(self, rows: int) -> None:
        super().__init__(orn.Chain.linear(), SHAPE)
        self.v = torch.randn(rows, *SHAPE)

    def forward(self, z: Tensor, t: Tensor, condition: object = None) -> orn.Estimate:
        return orn.Estimate(z, self.level(z, t), self.v)


def ours(name: str, rows: int, steps: int) -> float:
    """Seconds a step of ours."""
    denoiser, z = Free(rows), torch.randn(rows, *SHAPE)
    begin = time.perf_counter()
    orn.sample(denoiser, sampler=name, steps=steps, z=z, batch=rows)
    return (time.perf_counter() - begin) / steps


def theirs(kind: type, rows: int, steps: int) -> float:
    """Seconds a step of a scheduler of diffusers, made anew as a pipeline's user does."""
    answer, z = torch.randn(rows, *SHAPE), torch.randn(rows, *SHAPE)
    begin = time.perf_counter()
    walker = kind(num_train_timesteps=1000)
    walker.set_timesteps(steps)
    for step in walker.timesteps:
        z = walker.step(answer, step, z).prev_sample
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
            ours(name, rows, options.steps), theirs(kind, rows, options.steps)
            pairs = [(ours(name, rows, options.steps), theirs(kind, rows, options.steps))
                     for _ in range(options.repeats)]
            one, other = (median(side) for side in zip(*pairs, strict=True))
            print(f"{rows:3d} rows  {name:6s} {1e3 * one:7.3f} ms   {kind.__name__:28s} {1e3 * other:7.3f} ms   ratio "
                  f"{median(a / b for a, b in pairs):.2f}", flush=True)


if __name__ == "__main__":
    main()
