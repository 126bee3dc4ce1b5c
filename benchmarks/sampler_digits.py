"""One model of the digits, drawn from by auto, by what `tune` chose and by every scheduler of diffusers.

Fréchet distance of pixels, rounded to the data's levels, to the held-out digits over that of the training digits.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import torch
from judges import Judge
from sampler_peers import schedulers
from torch import Tensor

import ornstein as orn
from ornstein.evaluation.distances import frechet

CALLS = (4, 6, 8, 10, 20)
STEPS = 1000  # of the chain that diffusers is told


def betas(schedule: orn.Schedule) -> np.ndarray:
    """The chain through the levels of a variance-preserving schedule; the last beta is what diffusers allows."""
    alpha = schedule.level(torch.arange(STEPS + 1, dtype=torch.float64) / STEPS).signal.square()
    return (1 - alpha[1:] / alpha[:-1]).clamp(max=0.999).numpy()


def scheduled(make: Callable[..., object], model: orn.Denoiser, z: Tensor, labels: Tensor, calls: int) -> Tensor | None:
    """A scheduler's walk with our network, asked at the noise level that the scheduler is at; None where it cannot."""
    walker = make(trained_betas=betas(model.schedule), num_train_timesteps=STEPS)
    walker.set_timesteps(calls - 1 if isinstance(walker, diffusers.PNDMScheduler) else calls)
    if len(walker.timesteps) > calls:
        return None
    for number, step in enumerate(walker.timesteps):
        if isinstance(walker, diffusers.DDIMScheduler | diffusers.PNDMScheduler):
            time = torch.tensor(min((float(step) + 1) / STEPS, 1.0), dtype=torch.float64)
        else:
            time = model.schedule.time(-2 * walker.sigmas[number].double().log())
        with torch.no_grad():
            eps = torch.cat([model(part, time, told).eps for part, told in zip(z.split(500), labels.split(500),
                                                                             strict=True)])
        try:
            z = walker.step(eps, step, z).prev_sample
        except (IndexError, AssertionError):  # two of its times are one, as on its "lambdas" grid at few calls
            return None
    return z


def main() -> None:
    """One line of JSON a walk, then the best of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="of `ornstein train digits --minutes 1 --out RUN`")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the noise")
    parser.add_argument("--starts", type=int, default=64, help="that a tuning searches with")
    parser.add_argument("--calls", type=int, nargs="+", default=list(CALLS))
    parser.add_argument("--walks", nargs="+", help="of diffusers, by name; all unless given")
    parser.add_argument("--out", type=Path, default=Path("sampler_digits.jsonl"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    model, data = orn.load(asked.run), orn.load_data("digits")
    judged = Judge(data)
    labels = torch.arange(asked.count) % 10
    walks = [(name, make) for name, make in schedulers() if asked.walks is None or name in asked.walks]
    rows = []

    def judge(name: str, calls: int, seed: int, x: Tensor | None) -> None:
        if x is None or not x.isfinite().all():
            return
        rows.append({"name": name, "calls": calls, "seed": seed, "fd": judged.distance(judged.rounded(x))})
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")

    for calls in asked.calls:
        model.tuned = {}
        choice = orn.tune(model, calls, starts=asked.starts, condition=torch.arange(2 * asked.starts) % 10,
                          distance=lambda x: frechet(judged.train, judged.rounded(x)))
        print(f"{calls} calls: {choice.why}", flush=True)
        for seed in asked.seeds:
            z = torch.randn(len(labels), *model.shape, generator=torch.Generator().manual_seed(seed))
            judge("tuned", calls, seed, orn.sample(model, z=z, nfe=calls, condition=labels))
            for name in ("auto", *(name for name, about in orn.samplers().items() if about["calls"] <= calls)):
                judge(name, calls, seed, draw(model, z, labels, calls, name))
            for name, make in walks:
                judge(f"diffusers {name}", calls, seed, scheduled(make, model, z, labels, calls))
    for calls in asked.calls:
        here = [row for row in rows if row["calls"] == calls]
        means = {name: math.fsum(row["fd"] for row in here if row["name"] == name) / len(asked.seeds)
                 for name in {row["name"] for row in here}}
        theirs = min((fd, name) for name, fd in means.items() if name.startswith("diffusers"))
        own = min((fd, name) for name, fd in means.items() if not name.startswith("diffusers"))
        print(f"{calls:2d} calls: auto {means['auto']:.3f}, tuned {means['tuned']:.3f}, best of ours {own[0]:.3f} "
              f"{own[1]}, best of diffusers {theirs[0]:.3f} {theirs[1]}", flush=True)


def draw(model: orn.Denoiser, z: Tensor, labels: Tensor, calls: int, name: str) -> Tensor:
    """Samples of one of our rules, or of auto without what was tuned."""
    kept, model.tuned = model.tuned, {}
    x = orn.sample(model, z=z, nfe=calls, condition=labels, sampler=name)
    model.tuned = kept
    return x


if __name__ == "__main__":
    main()
