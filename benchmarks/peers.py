"""What Ornstein is compared with: copies, Gaussians, a plain prototype, and a U-Net of diffusers."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from judges import CLASSES, Drawn, labels_of
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein import Dataset, DiT

__all__ = ["diffusers_unet", "gaussian", "prototype", "resample"]

SEED = 0
COUNT = 10_000  # samples of most rows
FEW = 2_000  # samples of the rows that need many calls
WARMUP = 0.05  # share of the budget over which a peer's learning rate rises before it falls to 0
AVERAGE = 0.75  # step n moves the average of the weights by (1 + n)^-0.75, as diffusers' examples do
BETAS = {"num_train_timesteps": 1000, "beta_schedule": "linear", "prediction_type": "epsilon"}
Step = Callable[[float], None]


def resample(train: Dataset, seconds: float) -> Iterator[Drawn]:  # noqa: ARG001
    """Training digits drawn again with replacement, class by class."""
    rng = np.random.default_rng(5)
    rows = [rng.choice(np.flatnonzero(train.labels == label), COUNT // CLASSES) for label in range(CLASSES)]
    yield Drawn("resampled training digits", train.batch(np.concatenate(rows))[0], labels_of(COUNT))


def gaussian(train: Dataset, seconds: float) -> Iterator[Drawn]:  # noqa: ARG001
    """One Gaussian of full covariance for each class."""
    start, rng, parts = time.perf_counter(), np.random.default_rng(5), []
    for label in range(CLASSES):
        rows = train.spec.encode(train.values[train.labels == label]).flatten(1).double().numpy()
        parts.append(rng.multivariate_normal(rows.mean(0), np.cov(rows, rowvar=False), COUNT // CLASSES))
    x = torch.from_numpy(np.concatenate(parts)).float().reshape(-1, *train.spec.shape)
    yield Drawn("Gaussian per class", x, labels_of(COUNT), weights=CLASSES * (64 + 64 * 65 // 2),
                drawing=time.perf_counter() - start)


def spend(seconds: float, started: float, step: Step) -> tuple[int, float, float]:
    """Call `step` with a share of its learning rate until the budget is spent; steps, seconds and cores used."""
    busy = time.process_time()
    step(WARMUP)  # the first step may compile; the schedule is laid over the time that is left
    origin, end, steps = time.perf_counter(), started + seconds, 1
    while (now := time.perf_counter()) < end:
        share = (now - origin) / (end - origin)
        step(min(1.0, share / WARMUP) * (1 - share))
        steps += 1
    used = time.perf_counter() - started
    return steps, used, (time.process_time() - busy) / used


def learner(train: Dataset, network: nn.Module, batch: int, rate: float, loss_of: Callable[[Tensor, Tensor], Tensor],
            average: Callable[[int], None]) -> Step:
    """A plain step of AdamW on a random batch; `average` is then told the number of the step."""
    x, labels = train.batch(np.arange(len(train)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01, fused=True)
    count = 0

    def step(share: float) -> None:
        nonlocal count
        rows = torch.randint(len(x), (batch,))
        optimizer.param_groups[0]["lr"] = rate * share
        loss_of(x[rows], labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
        count += 1
        average(count)

    return step


def prototype(train: Dataset, seconds: float, batch: int = 128, rate: float = 4e-3,
              bf16: bool = False) -> Iterator[Drawn]:
    """A small transformer trained to rectified flow as in a weekend's prototype, as it is and compiled."""
    for compiled in (False, True):
        mean, images, used, cores = _prototype(train, seconds, batch, rate, bf16, compiled)
        for heun in (False, True):
            start, labels = time.perf_counter(), labels_of(COUNT)
            parts = [_flow(mean, part, 20, heun, bf16) for part in labels.split(500)]
            yield Drawn(f"prototype DiT{', compiled' * compiled}, {'Heun' if heun else 'Euler'}", torch.cat(parts),
                        labels, 20, _weights(mean), images, used, cores, time.perf_counter() - start)


def _prototype(train: Dataset, seconds: float, batch: int, rate: float, bf16: bool,
               compiled: bool) -> tuple[DiT, int, float, float]:
    """The averaged network, pictures seen, seconds and cores used; what is compiled is compiled within the budget."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # nothing compiled before may help
        torch.manual_seed(SEED)
        started = time.perf_counter()
        network = DiT(train.spec.shape, CLASSES, patch=2, width=64, depth=4, heads=2, embedding=64)
        mean = copy.deepcopy(network).eval().requires_grad_(False)
        model = torch.compile(network) if compiled else network

        def loss_of(x: Tensor, labels: Tensor) -> Tensor:
            eps, t = torch.randn_like(x), torch.rand(len(x))
            z = torch.lerp(x, eps, t[:, None, None, None])
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return F.mse_loss(model(z, _log_snr(t), labels).float(), eps - x)

        def average(number: int) -> None:
            with torch.no_grad():
                torch._foreach_lerp_(list(mean.parameters()), list(network.parameters()), (1 + number) ** -AVERAGE)

        steps, used, cores = spend(seconds, started, learner(train, network, batch, rate, loss_of, average))
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    return mean, steps * batch, used, cores


def _log_snr(t: Tensor) -> Tensor:
    return (2 * torch.logit(1 - t)).clamp(-12, 12)


@torch.no_grad()
def _flow(network: nn.Module, labels: Tensor, calls: int, heun: bool, bf16: bool) -> Tensor:
    """Samples by Euler's rule or Heun's within a number of network calls, from t = 1 to t = 0."""
    def velocity(z: Tensor, t: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return network(z, _log_snr(t.expand(len(z))), labels).float()

    z = torch.randn(len(labels), *network.options["shape"])
    times = torch.linspace(1, 0, (calls // 2 if heun else calls) + 1)
    for t, s in pairwise(times):
        v = velocity(z, t)
        if heun:
            v = (v + velocity(z + (s - t) * v, s)) / 2
        z = z + (s - t) * v
    return z


def diffusers_unet(train: Dataset, seconds: float, batch: int = 64, rate: float = 4e-3, bf16: bool = True,
                   channels_last: bool = False) -> Iterator[Drawn]:
    """A conditional UNet2DModel with the 1,000 linear betas, the loss on eps, and diffusers' schedulers."""
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    torch.manual_seed(SEED)
    started = time.perf_counter()
    network = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, num_class_embeds=CLASSES, norm_num_groups=8,
        layers_per_block=1, block_out_channels=(32, 64), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    mean = EMAModel(network.parameters(), use_ema_warmup=True, power=AVERAGE, foreach=True)
    chain = DDPMScheduler(**BETAS)

    def loss_of(x: Tensor, labels: Tensor) -> Tensor:
        eps, t = torch.randn_like(x), torch.randint(1000, (len(x),))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return F.mse_loss(network(chain.add_noise(x, eps, t), t, labels).sample.float(), eps)

    steps, used, cores = spend(seconds, started, learner(train, network, batch, rate, loss_of,
                                                  lambda _: mean.step(network.parameters())))
    mean.copy_to(network.parameters())
    network.eval()
    schedulers = [("ancestral", chain, 200)]
    # The default spacing of the steps, and the one that begins where the chain ends.
    for spacing, word in (({}, ""), ({"timestep_spacing": "trailing"}, ", trailing")):
        schedulers.append((f"DDIM{word}", DDIMScheduler(**BETAS, **spacing), 50))
        schedulers.append((f"DPM-Solver++{word}", DPMSolverMultistepScheduler(**BETAS, **spacing), 20))
    for name, scheduler, calls in schedulers:
        start, labels = time.perf_counter(), labels_of(FEW)
        parts = [_walk(network, scheduler, part, calls) for part in labels.split(500)]
        yield Drawn(f"diffusers, {name}", torch.cat(parts), labels, calls, _weights(network), steps * batch, used,
                    cores, time.perf_counter() - start)


@torch.no_grad()
def _walk(network: nn.Module, scheduler: Any, labels: Tensor, calls: int) -> Tensor:
    """Samples by a scheduler of diffusers within a number of network calls, in float32."""
    scheduler.set_timesteps(calls)
    z = torch.randn(len(labels), 1, 8, 8)
    for t in scheduler.timesteps:
        z = scheduler.step(network(z, t, labels).sample, t, z).prev_sample
    return z


def _weights(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())
