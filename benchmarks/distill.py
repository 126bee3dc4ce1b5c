"""Is a model worth distilling? Consistency tuning (Geng et al. 2024) of a digits model beside `ornstein tune`.

The student starts as the model. For the same x and eps its x-hat at t is pulled to its own x-hat at an earlier s, which
comes nearer to t as the training goes on; a sample is then x-hat of pure noise, noised again and denoised, k times.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import torch
from judges import CLASSES, Drawn, Judge, labels_of
from torch import Tensor

import ornstein as orn

HALF = math.pi / 2


def at(angle: Tensor) -> Tensor:
    """The times of `Cosine` at angles."""
    return (angle.double() / HALF).clamp(max=1.0)


def noised(x: Tensor, eps: Tensor, angle: Tensor) -> Tensor:
    wide = angle[:, None, None, None]
    return wide.cos() * x + wide.sin() * eps


def distil(model: orn.NetworkDenoiser, x: Tensor, labels: Tensor, seconds: float, rate: float, first: float,
           last: float, seed: int = 0) -> orn.NetworkDenoiser:
    """The student after so many seconds; the gap of two angles falls from `first` to `last` of the larger one."""
    student = copy.deepcopy(model).train().requires_grad_(True)
    mean = copy.deepcopy(model).eval()
    weights = list(student.network.parameters())
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(seed)
    begin = time.perf_counter()
    while (share := (time.perf_counter() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, share / 0.05) * (1 - share) ** 0.5
        rows = torch.randint(len(x), (128,), generator=generator)
        eps = torch.randn(128, *x.shape[1:], generator=generator)
        t = HALF * (1 - 1e-3) * torch.rand(128, generator=generator)
        gap = first * (last / first) ** share
        s = t * (1 - gap)
        with torch.no_grad():
            goal = student(noised(x[rows], eps, s), at(s), labels[rows]).x
        guess = student(noised(x[rows], eps, t), at(t), labels[rows]).x
        apart = (guess - goal).square().flatten(1).sum(1)
        scale = 0.03 * math.sqrt(x[0].numel())
        (((apart + scale**2).sqrt() - scale) / (t - s).clamp(min=1e-3)).mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, 10.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for kept, now in zip(mean.network.parameters(), weights, strict=True):
                kept.lerp_(now, 1 - min(0.995, max(0.0, 1 - 0.1 / max(share, 1e-3))))
    return mean


@torch.no_grad()
def drawn(model: orn.NetworkDenoiser, labels: Tensor, calls: int, seed: int = 0) -> Tensor:
    """x-hat of noise, noised again at angles even between pure noise and data, `calls` times."""
    generator = torch.Generator().manual_seed(seed)
    angles = HALF * torch.linspace(1, 0, calls + 1)[:-1]
    x = torch.zeros(len(labels), *model.shape)
    for angle in angles:
        z = noised(x, torch.randn(x.shape, generator=generator), angle.expand(len(x)))
        x = model(z, at(angle), labels).x
    return x


def main() -> None:
    """Train, draw and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="of `ornstein train digits --minutes 1 --out RUN`")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3])
    parser.add_argument("--last", type=float, nargs="+", default=[0.05])
    asked = parser.parse_args()
    data = orn.load_data("digits")
    judge, training = Judge(data), data.split()[0]
    x, known = training.batch(range(len(training)))
    model, labels = orn.load(asked.run), labels_of(200 * CLASSES)

    def tell(name: str, calls: int, samples: Tensor) -> None:
        figures = judge(Drawn(name, samples, labels))
        print(f"{name:34s} {calls} calls  FD {figures['fd']:.3f}  AUC {figures['auc']:.3f}  recognised "
              f"{figures['recognised']:.4f}", flush=True)

    model.tuned = {}
    for calls in (4, 20):
        tell("auto", calls, orn.sample(model, len(labels), nfe=calls, condition=labels))
    print(orn.tune(model, 4, condition=torch.arange(256) % CLASSES).why)
    tell("tuned", 4, orn.sample(model, len(labels), nfe=4, condition=labels))
    for rate in asked.rates:
        for last in asked.last:
            student = distil(model, x, known, asked.seconds, rate, 0.5, last)
            for calls in (1, 2, 4):
                tell(f"distilled, rate {rate:g}, gap to {last:g}", calls, drawn(student, labels, calls))


if __name__ == "__main__":
    main()
