"""The reverse variances that make a chain's bound tightest, so that few steps have an honest bound too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ornstein.arguments import require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.encoder import draw, transition
from ornstein.diffusion.likelihood.bound import Reader
from ornstein.diffusion.likelihood.times import rising
from ornstein.isolation import isolated

__all__ = ["optimal_variance"]


@isolated(gradients=False, evaluating=True)
def optimal_variance(denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor, *, per_value: bool = False,
                     draws: int = 1, seed: int = 0, condition: Condition = None) -> Tensor:
    """The variance of each reverse step that minimises its divergence, for `elbo` (Bao et al. 2022).

    variance = posterior variance + of_x^2 E (x - x-hat)^2, where of_x is the factor of x in the posterior's mean: the
    moment-matching N(m(x-hat), variance) of q(z_s | z_t). For the optimal denoiser the error is E var(x | z_t), which
    Bao et al. write through the score; in this form it holds for any denoiser. Estimate it on training data: on
    the data that the bound is taken of it would be a choice made by looking at them.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) clean training data.
        times: of the bound, strictly increasing from 0.
        per_value: one variance for every value of a sample, instead of one for all.
        draws: latents a sample and step, >= 1.
        seed: of the noise.
        condition: as for the denoiser.

    Returns:
        (n + 1,) or (n + 1, *shape) float64: first that of p(x | z_1), then that of each step, least noise first.

    Raises:
        ValueError: times that do not rise from 0, shapes that do not fit.
    """
    read, grid, draws = Reader(denoiser, x, condition), rising(times), require_int("draws", draws)
    variances = []
    for k, (s, t) in enumerate(pairwise(grid)):
        error = torch.zeros((), dtype=torch.float64, device=read.x.device)
        for number in range(draws):
            # A place in the stream far from those of `elbo`, so that the same seed gives other latents there.
            z = draw(read.encoder.kernel(read.x, t), read.eps(seed, "bound", number, k + (1 << 32)))
            error = error + ((read.x - read(z, t).x) ** 2).mean(0) / draws
        if not per_value:
            error = error.mean()
        level_s, level_t, _, added = transition(read.schedule, s, t)
        of_x = float(added * level_s.signal / level_t.noise**2)
        kept = float(level_s.noise**2 * added / level_t.noise**2)
        # A value that never varies would have variance 0, and unseen data none of its probability.
        variances.append(kept + of_x**2 * error.clamp(min=1e-12))
    return torch.stack(variances).reshape(len(variances), *(read.x.shape[1:] if per_value else ()))
