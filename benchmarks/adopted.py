"""A model of diffusers adopted: `ornstein tune` at few calls beside the best of diffusers' own schedulers at 20.

A UNet2DModel is trained on the digits with diffusers' own loss and saved as a pipeline; every scheduler of diffusers
draws from it in diffusers' own loop, and Ornstein from the same noise. Fréchet distance of pixels to the held-out
digits in floors, and the area under the curve of a forest that tells samples from the training digits.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from judges import CLASSES, Judge
from sampler_peers import schedulers
from torch import Tensor, nn

import ornstein as orn

BATCH, RATE = 128, 1e-3
# As most models of diffusers are used: x-hat is clamped, which its solvers of a higher order do not do.
CLAMPED = [(f"DDIM {grid} clamped", functools.partial(diffusers.DDIMScheduler, timestep_spacing=grid))
           for grid in ("linspace", "trailing")]


def train(folder: Path, seconds: float, widths: list[int], data: orn.Dataset) -> None:
    """A pipeline trained on the digits as the examples of diffusers do it, with averaged weights."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=tuple(widths), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, attention_head_dim=16, num_class_embeds=CLASSES)
    scheduler = diffusers.DDPMScheduler()
    optimiser, average = torch.optim.AdamW(unet.parameters(), RATE), diffusers.training_utils.EMAModel(
        unet.parameters(), decay=0.999, use_ema_warmup=True)
    x, labels = data.split()[0].batch(range(len(data.split()[0])))
    begin, steps = time.perf_counter(), 0
    while (spent := time.perf_counter() - begin) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - spent / seconds)
        rows, t = torch.randint(len(x), (BATCH,)), torch.randint(scheduler.config.num_train_timesteps, (BATCH,))
        eps = torch.randn(BATCH, *x.shape[1:])
        answer = unet(scheduler.add_noise(x[rows], eps, t), t, labels[rows]).sample
        optimiser.zero_grad()
        nn.functional.mse_loss(answer, eps).backward()
        optimiser.step()
        average.step(unet.parameters())
        steps += 1
    average.copy_to(unet.parameters())
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(folder)
    print(f"{steps} steps of {BATCH} digits in {seconds:.0f} s, {sum(map(torch.numel, unet.parameters())):,} weights",
          flush=True)


@torch.no_grad()
def drawn(make: Callable[..., Any], unet: Any, z: Tensor, labels: Tensor, calls: int) -> Tensor | None:
    """A scheduler's walk in diffusers' own loop, from z at t = 1; None where it takes more calls or fails."""
    walker = make(num_train_timesteps=1000)
    walker.set_timesteps(calls - 1 if isinstance(walker, diffusers.PNDMScheduler) else calls)
    if len(walker.timesteps) > calls:
        return None
    try:
        for step in walker.timesteps:
            seen = walker.scale_model_input(z, step)
            answer = torch.cat([unet(part, step, told).sample for part, told in zip(
                seen.split(500), labels.split(500), strict=True)])
            z = walker.step(answer, step, z).prev_sample
    except (IndexError, AssertionError):  # two of its times are one
        return None
    return z if z.isfinite().all() else None


def main() -> None:
    """A line of JSON a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("adopted"), help="of the pipeline; trained if not there")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--widths", type=int, nargs=2, default=[32, 64])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--walks", nargs="+", help="of diffusers, by name; all unless given")
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--theirs", type=int, default=20)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    data = orn.load_data("digits")
    if not asked.folder.is_dir():
        train(asked.folder, asked.seconds, asked.widths, data)
    unet = diffusers.UNet2DModel.from_pretrained(asked.folder / "unet").eval()
    judge, labels = Judge(data), torch.arange(asked.count) % CLASSES
    starts = [torch.randn(asked.count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in asked.seeds]

    def told(name: str, calls: int, samples: list[Tensor]) -> None:
        rows = [judge.rounded(x) for x in samples]
        areas = [np.mean([judge._forest(part, labels.numpy(), seed) for seed in range(2)]) for part in rows]
        print(json.dumps({"name": name, "calls": calls, "distance": [round(judge.distance(part), 3) for part in rows],
                          "auc": round(float(np.mean(areas)), 3)}), flush=True)

    found = []
    for name, make in (one for one in [*CLAMPED, *schedulers()] if asked.walks is None or one[0] in asked.walks):
        x = drawn(make, unet, starts[0], labels, asked.theirs)
        if x is not None:
            found.append((judge.distance(judge.rounded(x)), name, make))
    found.sort(key=lambda one: one[0])
    for _, name, make in found[:3]:  # the best three of the first noise, on all of them
        told(f"diffusers {name}", asked.theirs, [drawn(make, unet, z, labels, asked.theirs) for z in starts])
    model = orn.adopt(asked.folder, data="digits")
    from ornstein.evaluation.discrepancy import discrepancy

    near = discrepancy(judge.train)
    begin = time.perf_counter()
    choice = orn.tune(model, asked.calls, condition=torch.arange(256) % CLASSES,
                      distance=lambda x: near(judge.rounded(x)))
    print(f"tuned in {time.perf_counter() - begin:.0f} s: {choice.why}", flush=True)
    told("ornstein tuned", asked.calls, [orn.sample(model, z=z, condition=labels, nfe=asked.calls) for z in starts])
    model.tuned = {}
    for calls in (asked.calls, asked.theirs, 50):
        told("ornstein auto", calls, [orn.sample(model, z=z, condition=labels, nfe=calls) for z in starts])


if __name__ == "__main__":
    main()
