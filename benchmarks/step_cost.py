"""What a sampler costs beside the network: seconds a step on a denoiser that costs nothing, and of its arithmetic."""

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
TERMS = {"ddim": 2, "dpm++": 4, "unipc": 6, "deis": 6, "auto": 8}  # z and v of each call that a step looks at


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
            ours(name, rows, options.steps), theirs(kind, rows, options.steps)
            runs = [(ours(name, rows, options.steps), theirs(kind, rows, options.steps),
                     bare(TERMS[name], rows, options.steps)) for _ in range(options.repeats)]
            one, other, least = (median(side) for side in zip(*runs, strict=True))
            print(f"{rows:3d} rows  {name:6s} {1e3 * one:7.3f} ms, its arithmetic {1e3 * least:7.3f} ms   "
                  f"{kind.__name__:28s} {1e3 * other:7.3f} ms   ratio {median(a / b for a, b, _ in runs):.2f}, of the "
                  f"arithmetic {median(c / b for _, b, c in runs):.2f}", flush=True)


if __name__ == "__main__":
    main()
