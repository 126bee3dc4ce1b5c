"""What a training is asked for, held against its data and the machine before anything is written."""

from __future__ import annotations

import math
import os

import torch

from ornstein.arguments import construct
from ornstein.data import Dataset
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.linear import MOST_SIDE, LinearGuess
from ornstein.diffusion.schedule import SCHEDULES, Chain, Schedule
from ornstein.machine import total_memory
from ornstein.networks import build
from ornstein.settings import Settings

__all__ = ["network_options", "refuse", "schedule_of"]

COPIES = 6  # of the weights: they, two averages, their gradient, and two moments of the optimiser
ROWS = 6  # tensors like a batch: data, noise, latents and what is made of them before the network
LOOKED_AT = 256  # samples that settle a rough scale
FEW = 64  # threads or processes that any machine may be asked for; larger ones four a core


def schedule_of(settings: Settings) -> Schedule:
    """The schedule that the settings describe; a chain without betas is that of Ho et al. 2020."""
    kind, options = SCHEDULES[settings.schedule], settings.schedule_options
    make = Chain.linear if kind is Chain and "beta" not in options else kind
    return construct(f"schedule {settings.schedule!r}", make, options)


def network_options(settings: Settings, data: Dataset) -> dict[str, object]:
    """All options of the network; ValueError where the settings name one that the data decide."""
    spec = data.spec
    decided: dict[str, object] = {"shape": list(spec.shape),
                                  "classes": len(spec.classes) if settings.classes else 0}
    if spec.conditions:
        decided["conditions"] = len(spec.conditions)
    for name in ("shape", "classes", "conditions"):
        if name in settings.options:
            raise ValueError(f"options.{name} is decided by the data; leave it out")
    return {**decided, **settings.options}


def refuse(settings: Settings, data: Dataset, device: str, world: int, own: bool = False) -> None:
    """Refuse, with a ValueError, what resolved settings ask for and network, schedule, data or machine do not allow.

    Of `world` processes that are there already, those that are missing are started on this machine; a network of the
    user's `own` is for its author to judge.
    """
    most = max(FEW, 4 * (os.cpu_count() or 1))
    processes = settings.processes or 1
    for name, value in (("threads", settings.threads or 1), ("processes", processes if world == 1 else 1)):
        if value > most:
            raise ValueError(f"{name} is {value}; this machine has {os.cpu_count()} cores, and {most} are the most")
    if processes != world and processes % (settings.shard or 1):  # those that are there have chosen
        raise ValueError(f"shard is {settings.shard}; it must divide the {processes} processes")
    if settings.batch_size % processes:
        raise ValueError(f"batch is {settings.batch_size}; {processes} processes need a multiple of {processes}")
    if own:
        return
    with torch.device("meta"):
        network = build(settings.network, network_options(settings, data))
    x = data.batch(range(min(LOOKED_AT, len(data))))[0]
    std = max(float((x - x.mean(0)).square().mean().sqrt()), 1e-3)
    linear = None if settings.linear == "none" else LinearGuess(x.new_ones(math.prod(data.spec.shape)))
    if settings.linear == "waves" and max(data.spec.shape[1:], default=0) > MOST_SIDE:
        raise ValueError(f"linear is 'waves'; waves are for sides of at most {MOST_SIDE}, choose 'diagonal'")
    with torch.device("cpu"):  # whatever torch's default is
        NetworkDenoiser(network, schedule_of(settings), data.spec.shape, settings.predicts, std, linear=linear)
    there = total_memory(device)
    weights = sum(value.numel() for value in network.parameters())
    rows = settings.batch_size // processes * math.prod(data.spec.shape)
    for name, need in ((f"network {settings.network!r} of {weights:,} weights", 4 * COPIES * weights),
                       (f"batch of {settings.batch_size:,} samples", 4 * ROWS * rows)):
        if need > there:
            raise ValueError(f"{name} needs {need / 2**30:,.0f} GiB of memory to train, this machine has "
                             f"{there / 2**30:,.0f}; choose a smaller one")
