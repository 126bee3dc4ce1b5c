"""The latent that a sample is drawn from, by the flow from data to noise."""

from __future__ import annotations

import itertools

from torch import Tensor

from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Batched, Denoiser
from ornstein.diffusion.editing.restore import NFE, budget, samples_of
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.grid import Moment, grid, moments
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers.loop import SAMPLERS
from ornstein.diffusion.samplers.rule import Step
from ornstein.isolation import isolated

__all__ = ["invert"]

ROWS = 64  # of one network call


@isolated(gradients=False, evaluating=True)
def invert(denoiser: Denoiser, x: Tensor, *, nfe: int = NFE, condition: Condition = None) -> Tensor:
    """The latents at t = 1 from which `ornstein.sample` comes back to samples: the flow from data to noise.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) samples.
        nfe: budget of network calls a sample.
        condition: as for `ornstein.sample`; give the same one when coming back.

    Returns:
        (B, *shape) z at t = 1, in the dtype and on the device of x, for `ornstein.sample(denoiser, z=z)`.

    Raises:
        ValueError: samples of another shape or not finite, or a budget below 4.
    """
    _, nfe = budget(1, nfe, 0)
    z = samples_of("x", x, denoiser.shape)
    rule = SAMPLERS["rk4"]
    times = grid(denoiser.schedule, max(1, nfe // 4), "angle")
    denoise = Batched(denoiser, denoiser.read_condition(condition, len(z), "cpu"), ROWS)

    def ask(z: Tensor, time: float) -> Estimate:
        return denoise(z, time.clock if isinstance(time, Moment) else as_time(time))

    walk = moments(denoiser.schedule, times, z)
    for t, s in itertools.pairwise(reversed(walk)):
        estimate = ask(z, t)
        z = rule.advance(Step(denoiser.schedule, t, s, estimate, (), ask, z.clone))
    return z
