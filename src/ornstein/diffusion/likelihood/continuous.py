"""The bound in continuous time: an integral over log SNR, by random and by importance-sampled times."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ornstein import noise
from ornstein.arguments import require, require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.encoder import draw
from ornstein.diffusion.level import as_time
from ornstein.diffusion.likelihood.bound import Bound, Float64Model, flat, prior_gap, reconstruction
from ornstein.diffusion.likelihood.levels import check_levels
from ornstein.diffusion.likelihood.times import bound_range
from ornstein.isolation import isolated

__all__ = ["PROPOSALS", "continuous_elbo"]

PROPOSALS = ("uniform", "importance")
BINS, PILOT = 32, 64  # of log SNR in the piecewise constant proposal; samples that it is estimated on
FLOOR = 0.1  # uniform share of the proposal, so that no weight exceeds ten times the uniform one


@isolated(gradients=False, evaluating=True)
def continuous_elbo(denoiser: Denoiser, x: Tensor, levels: int | None = None, draws: int = 16, seed: int = 0, *,
                    proposal: str = "importance", log_snr: tuple[float, float] | None = None,
                    condition: Condition = None) -> Bound:
    """An unbiased draw of the bound for infinitely many steps (Kingma et al. 2021, equation 18 and section 5).

    diffusion = 1/2 integral of E |eps - eps-hat|^2 d log SNR,  estimated at `draws` random log SNRs per sample,
    stratified over batch and draws. "importance" draws them in proportion to the root mean square of the integrand,
    estimated on a few rows with other noise: the same expectation, less variance.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) clean data.
        levels: evenly spaced values from -1 to 1 that the data have; None for a density.
        draws: log SNRs per sample, >= 1.
        seed: of the noise.
        proposal: "uniform" or "importance".
        log_snr: (minimum, maximum) of the integral; by default as for `bound_times`.
        condition: as for the denoiser.

    Returns:
        `Bound`, whose `steps` and `log_snr` are (B, draws): the contribution and the log SNR of each draw.

    Raises:
        ValueError: draws < 1, a range that is reversed or beyond the schedule, an unknown proposal, data off the
            levels.
    """
    model = Float64Model(denoiser, x, condition)
    levels = check_levels(x, levels)
    draws = require_int("draws", draws)
    require("proposal", proposal, PROPOSALS)
    minimum, maximum = bound_range(model.schedule, levels, log_snr)
    edges, density = np.linspace(minimum, maximum, BINS + 1), np.full(BINS, 1 / (maximum - minimum))
    if proposal == "importance":
        density = _proposal(denoiser, model, edges, seed)
    # Cumulative probabilities at the edges, which map quantiles in [0, 1) to log SNRs.
    cumulative = np.concatenate([[0.0], np.cumsum(density * np.diff(edges))])
    cumulative /= cumulative[-1]
    rng = noise.generator(seed, "bound", 0, 1 << 33)
    quantiles = (rng.permutation(len(x) * draws) + rng.random(len(x) * draws)).reshape(len(x), draws) / (len(x) * draws)
    log_snrs = np.interp(quantiles, cumulative, edges)
    weight = 1 / density[np.clip(np.searchsorted(edges, log_snrs, "right") - 1, 0, BINS - 1)]
    weight = torch.from_numpy(weight / draws).to(model.x)
    terms = torch.stack([_integrand(model, torch.from_numpy(log_snrs[:, k]), seed, k) * weight[:, k]
                         for k in range(draws)], 1)
    first, last = model.schedule.time(maximum), model.schedule.time(minimum)
    z = draw(model.encoder.kernel(model.x, first), model.eps(seed, "bound", 0, 1 << 34))
    return Bound(prior_gap(model, last), terms.sum(1), reconstruction(model.x, model(z, first), levels), terms,
                 torch.from_numpy(log_snrs),
                 f"continuous, {draws} {proposal} draws, log SNR {maximum:.3g} to {minimum:.3g}",
                 math.prod(denoiser.shape), levels)


def _integrand(model: Float64Model, log_snr: Tensor, seed: int, draw_index: int) -> Tensor:
    """|eps - eps-hat|^2 / 2 at one log SNR for each row, (B,)."""
    t, eps = model.schedule.time(log_snr), model.eps(seed, "bound", draw_index, 1 << 35)
    z = draw(model.encoder.kernel(model.x, t), eps)
    return 0.5 * flat((eps - model(z, as_time(t)).eps) ** 2).sum(1)


def _proposal(denoiser: Denoiser, model: Float64Model, edges: np.ndarray, seed: int) -> np.ndarray:
    """A density of log SNR over the bins, in proportion to the root mean square of the integrand in each."""
    rows, conditions = min(PILOT, len(model.x)), model.batched.conditions
    pilot = Float64Model(denoiser, model.x[:rows], None if conditions is None else conditions[:rows])
    middle = torch.from_numpy((edges[1:] + edges[:-1]) / 2)
    size = np.array([float(_integrand(pilot, value.expand(rows), seed, (1 << 20) + k).square().mean().sqrt())
                     for k, value in enumerate(middle)])
    uniform = np.full(len(size), 1 / (edges[-1] - edges[0]))
    if not size.sum():
        return uniform
    return FLOOR * uniform + (1 - FLOOR) * size / (size * np.diff(edges)).sum()
