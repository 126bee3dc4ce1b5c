"""Inversion: the latent that a sample is drawn from, by the flow from data to noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Batched, Denoiser
from ornstein.diffusion.editing.restore import NFE, check_budget, check_samples
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.grid import power_times, walk_moments
from ornstein.diffusion.guidance import guided
from ornstein.diffusion.samplers.loop import SAMPLERS, auto_rule, check_finite, run_walk
from ornstein.display import progress_callback
from ornstein.isolation import isolated

__all__ = ["invert"]

ROWS = 64  # of a network call
# Powers of a grid on which the walk to noise is stable where modes separate, also in many dimensions: 64 samples of
# narrow mixtures in d = 2 to 64 were recovered within 6e-4; with the times of "auto" one came back in another mode.
POWERS = 1.3, 1.0


@isolated(gradients=False, evaluating=True)
def invert(denoiser: Denoiser, x: Tensor, *, nfe: int = NFE, condition: Condition = None,
           guidance: float | None = None, progress: bool | Callable[[float], None] = False) -> Tensor:
    """The latents from which `ornstein.sample` returns to the samples: the probability flow from data to noise.

    The rule is the default of `ornstein.sample` for as many calls, in reverse. The flow starts with v = 0, which
    holds at t = 0 for any smooth density, so the model is not called there.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) samples.
        nfe: budget of network calls per sample, >= 2.
        condition, guidance: as for `ornstein.sample`; use the same to sample from the latents.
        progress: as for `ornstein.sample`.

    Returns:
        (B, *shape) z at t = 1, in the dtype and on the device of x; ornstein.sample(denoiser, z=z, nfe=nfe)
        returns to x.

    Raises:
        ValueError: samples of another shape or not finite, or a budget below 2.
    """
    _, nfe = check_budget(1, nfe, 0)
    if nfe < 2:
        raise ValueError(f"nfe is {nfe}; the way to noise needs at least 2 calls")
    x = check_samples("x", x, denoiser.shape)
    conditions = denoiser.read_condition(condition, len(x), "cpu")
    denoiser = guided(denoiser, guidance)
    rule, times = SAMPLERS[auto_rule(nfe)], power_times(denoiser.schedule, nfe, *POWERS)
    latents = torch.empty_like(x)
    walk = walk_moments(denoiser.schedule, times, x)[::-1]
    with progress_callback(progress, "inverting") as on_progress:
        for first in range(0, len(x), ROWS):
            rows = slice(first, first + ROWS)
            denoise = Batched(denoiser, None if conditions is None else conditions[rows], ROWS)
            at_rest = Estimate.from_v(torch.zeros_like(x[rows]), x[rows], denoiser.schedule.level(walk[0].clock))
            # The rules of "auto" draw no noise.
            for step, (_, z, _) in enumerate(run_walk(rule, walk, x[rows], denoise, lambda _, z: z.clone, at_rest)):
                latents[rows] = z
                on_progress((first + len(z) * step / (len(walk) - 1)) / len(x))
    return check_finite(latents)
