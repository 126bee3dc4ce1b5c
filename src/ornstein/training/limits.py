"""Checks of the settings against data, network and machine, before anything is written."""

from __future__ import annotations

import math
import os

import torch

from ornstein.arguments import construct
from ornstein.data import Dataset
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.linear import MAX_SIDE, LinearGuess
from ornstein.diffusion.schedule import SCHEDULES, Chain, Schedule
from ornstein.machine import total_memory
from ornstein.networks import build
from ornstein.settings import Settings

__all__ = ["build_schedule", "check_feasible", "network_options"]

WEIGHT_COPIES = 6  # the weights, two averages, the gradient and the two moments of the optimiser
BATCH_COPIES = 6  # data, noise, latents and what is computed from them before the network
SCALE_SAMPLES = 256  # for a rough estimate of the data's scale
MIN_WORKER_LIMIT = 64  # threads or processes that any machine allows; larger machines allow four per core


def build_schedule(settings: Settings) -> Schedule:
    """Build the schedule of the settings; a chain without betas is that of Ho et al. 2020."""
    kind, options = SCHEDULES[settings.schedule], settings.schedule_options
    make = Chain.linear if kind is Chain and "beta" not in options else kind
    return construct(f"schedule {settings.schedule!r}", make, options)


def network_options(settings: Settings, data: Dataset) -> dict[str, object]:
    """All options of the network; ValueError if the settings name one that follows from the data."""
    spec = data.spec
    from_data: dict[str, object] = {"shape": list(spec.shape),
                                    "classes": len(spec.classes) if settings.classes else 0}
    if spec.conditions:
        from_data["conditions"] = len(spec.conditions)
    for name in ("shape", "classes", "conditions"):
        if name in settings.options:
            raise ValueError(f"options.{name} follows from the data; leave it out")
    return {**from_data, **settings.options}


def check_feasible(settings: Settings, data: Dataset, device: str, world: int, custom: bool = False) -> None:
    """Raise ValueError where network, schedule, data or machine do not allow what the resolved settings ask for.

    `world` processes are running; if there is one, the others are started on this machine. A `custom` network, of the
    user's own class, is not checked.
    """
    limit = max(MIN_WORKER_LIMIT, 4 * (os.cpu_count() or 1))
    processes = settings.processes or 1
    for name, value in (("threads", settings.threads or 1), ("processes", processes if world == 1 else 1)):
        if value > limit:
            raise ValueError(f"{name} is {value}; this machine has {os.cpu_count()} cores and allows at most {limit}")
    if processes != world and processes % (settings.shard or 1):  # running processes have configured their shards
        raise ValueError(f"shard is {settings.shard}; it must divide the {processes} processes")
    if settings.batch_size % processes:
        raise ValueError(f"batch is {settings.batch_size}; {processes} processes need a multiple of {processes}")
    if custom:
        return
    with torch.device("meta"):
        network = build(settings.network, network_options(settings, data))
    x = data.batch(range(min(SCALE_SAMPLES, len(data))))[0]
    std = max(float((x - x.mean(0)).square().mean().sqrt()), 1e-3)
    linear = None if settings.linear == "none" else LinearGuess(x.new_ones(math.prod(data.spec.shape)))
    if settings.linear == "waves" and max(data.spec.shape[1:], default=0) > MAX_SIDE:
        raise ValueError(f"linear is 'waves', which needs sides of at most {MAX_SIDE}; choose 'diagonal'")
    with torch.device("cpu"):  # torch's default device may be another
        NetworkDenoiser(network, build_schedule(settings), data.spec.shape, settings.predicts, std, linear=linear)
    available = total_memory(device)
    weights = sum(value.numel() for value in network.parameters())
    rows = settings.batch_size // processes * math.prod(data.spec.shape)
    for name, need in ((f"network {settings.network!r} of {weights:,} weights", 4 * WEIGHT_COPIES * weights),
                       (f"batch of {settings.batch_size:,} samples", 4 * BATCH_COPIES * rows)):
        if need > available:
            raise ValueError(f"{name} needs {need / 2**30:,.0f} GiB of memory to train, this machine has "
                             f"{available / 2**30:,.0f}; choose a smaller one")
