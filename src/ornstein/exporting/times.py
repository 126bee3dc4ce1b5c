"""The times of a model's sampler in the formats of other libraries, and the name of its rule."""

from __future__ import annotations

import math
from typing import Any

import torch

from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers.choice import Choice
from ornstein.diffusion.samplers.loop import NFE, SAMPLERS, choose_walk
from ornstein.diffusion.samplers.rule import Rule
from ornstein.diffusion.schedule import Chain

__all__ = ["sampler_name", "timesteps"]


def sampler_name(rule: Rule) -> str:
    """The name of one of our rules; "learned" for a learned one."""
    return next((name for name, known in SAMPLERS.items() if known is rule), Choice.LEARNED)


def timesteps(model: NetworkDenoiser, nfe: int = NFE, guidance: float = 1.0) -> dict[str, Any]:
    """The times of a sampler's network calls, as plain JSON values.

    `sigmas` are noise / signal, ending in 0, as k-diffusion's samplers and `set_timesteps(sigmas=...)` of diffusers
    take them; if the schedule ends without signal, the first is the largest of the training. `timesteps` are the steps
    of a chain with the nearest log SNR, decreasing, as `set_timesteps(timesteps=...)` takes them: step n is n - 1
    there. The chain is the model's own, or else that of Ho et al. 2020; `scheduler` holds the options of a scheduler
    of diffusers with its levels.

    Raises:
        ValueError: more times than steps of the chain.
    """
    rule, times, choice = choose_walk(model, "auto", nfe, guidance=guidance)
    chain = model.schedule if isinstance(model.schedule, Chain) else Chain.linear()
    log_snr = model.schedule.log_snr(times[:-1])
    if len(log_snr) > chain.T:
        raise ValueError(f"nfe is {nfe}, and the chain has only {chain.T} steps; give fewer calls")
    steps = (chain.time(log_snr) * chain.T).round().long().clamp(1, chain.T).tolist()
    for index in range(len(steps) - 2, -1, -1):  # make them distinct
        steps[index] = max(steps[index], steps[index + 1] + 1)
    steps = [min(step, chain.T - index) for index, step in enumerate(steps)]
    for index in range(1, len(steps)):
        steps[index] = min(steps[index], steps[index - 1] - 1)
    sigmas = torch.exp(-log_snr / 2).clamp(max=math.exp(-model.log_snr_range[0] / 2))
    return {"nfe": nfe, "sampler": sampler_name(rule), "tuned": choice is not None, "guidance": guidance,
            "timesteps": [step - 1 for step in steps], "sigmas": [*sigmas.tolist(), 0.0],
            "scheduler": {"num_train_timesteps": chain.T, **_betas(chain)}}


def _betas(chain: Chain) -> dict[str, Any]:
    first, last = float(chain.beta[0]), float(chain.beta[-1])
    if torch.equal(chain.beta, Chain.linear(chain.T, first, last).beta):
        return {"beta_schedule": "linear", "beta_start": first, "beta_end": last}
    return {"trained_betas": chain.beta.tolist()}
