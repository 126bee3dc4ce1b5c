"""The reverse variances that make a chain's bound tightest, also for few steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ornstein.arguments import require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.encoder import draw, transition
from ornstein.diffusion.likelihood.bound import Float64Model
from ornstein.diffusion.likelihood.times import increasing_times
from ornstein.isolation import isolated

__all__ = ["optimal_variance"]


@isolated(gradients=False, evaluating=True)
def optimal_variance(denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor, *, per_value: bool = False,
                     draws: int = 1, seed: int = 0, condition: Condition = None) -> Tensor:
    """The variance of each reverse step that minimises its divergence, for `elbo` (Bao et al. 2022).

    variance = posterior variance + weight_x^2 E (x - x-hat)^2, where weight_x is the weight of x in the posterior's
    mean: N(m(x-hat), variance) then matches the moments of q(z_s | z_t). For the optimal denoiser the error is
    E var(x | z_t), which Bao et al. write in terms of the score; this form holds for any denoiser. Estimate it on
    training data, since the bound's own data must not choose it.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) clean training data.
        times: of the bound, strictly increasing from 0.
        per_value: one variance for each value of a sample, instead of one for all.
        draws: latents per sample and step, >= 1.
        seed: of the noise.
        condition: as for the denoiser.

    Returns:
        (n + 1,) or (n + 1, *shape) float64: first that of p(x | z_1), then that of each step, least noise first.

    Raises:
        ValueError: times that do not increase from 0, shapes that do not fit.
    """
    model, grid, draws = Float64Model(denoiser, x, condition), increasing_times(times), require_int("draws", draws)
    variances = []
    for k, (s, t) in enumerate(pairwise(grid)):
        error = torch.zeros((), dtype=torch.float64, device=model.x.device)
        for index in range(draws):
            # Far in the stream from the steps of `elbo`, so that the same seed gives other latents there.
            z = draw(model.encoder.kernel(model.x, t), model.eps(seed, "bound", index, k + (1 << 32)))
            error = error + ((model.x - model(z, t).x) ** 2).mean(0) / draws
        if not per_value:
            error = error.mean()
        level_s, level_t, _, added = transition(model.schedule, s, t)
        weight_x = float(added * level_s.signal / level_t.noise**2)
        posterior = float(level_s.noise**2 * added / level_t.noise**2)
        # A constant value would get variance 0, and unseen data probability 0.
        variances.append(posterior + weight_x**2 * error.clamp(min=1e-12))
    return torch.stack(variances).reshape(len(variances), *(model.x.shape[1:] if per_value else ()))
