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
from ornstein.diffusion.likelihood.bound import Bound, Reader, flat, prior_gap, reconstruction
from ornstein.diffusion.likelihood.levels import levels_of
from ornstein.diffusion.likelihood.times import span
from ornstein.isolation import isolated

__all__ = ["PROPOSALS", "continuous_elbo"]

PROPOSALS = ("uniform", "importance")
BINS, PILOT = 32, 64  # of log SNR in the piecewise constant proposal; samples that it is found on
FLOOR = 0.1  # share of the proposal that stays even, so that no weight exceeds ten times the even one's


@isolated(gradients=False, evaluating=True)
def continuous_elbo(denoiser: Denoiser, x: Tensor, levels: int | None = None, draws: int = 16, seed: int = 0, *,
                    proposal: str = "importance", log_snr: tuple[float, float] | None = None,
                    condition: Condition = None) -> Bound:
    """The bound for infinitely many steps (Kingma et al. 2021, equation 18 and section 5), an unbiased draw of it.

    diffusion = 1/2 integral of E |eps - eps-hat|^2 d log SNR,  estimated at `draws` random log SNRs a sample, which
    are spread evenly over batch and draws (stratified). "importance" draws them in proportion to the root mean square
    of the integrand, found on a few rows with noise of its own: the same expectation, less variance.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) clean data.
        levels: evenly spaced values from -1 to 1 that the data have; None for a density.
        draws: log SNRs a sample, >= 1.
        seed: of the noise.
        proposal: "uniform" or "importance".
        log_snr: (least, most) of the integral; by default as for `bound_times`.
        condition: as for the denoiser.

    Returns:
        `Bound`, whose `steps` and `log_snr` are (B, draws): what each draw adds, and where.

    Raises:
        ValueError: draws < 1, a range that is reversed or beyond the schedule, an unknown proposal, data off the
            levels.
    """
    read = Reader(denoiser, x, condition)
    levels = levels_of(x, levels)
    draws = require_int("draws", draws)
    require("proposal", proposal, PROPOSALS)
    least, most = span(read.schedule, levels, log_snr)
    edges, density = np.linspace(least, most, BINS + 1), np.full(BINS, 1 / (most - least))
    if proposal == "importance":
        density = _proposal(denoiser, read, edges, seed)
    # Cumulative probability at the edges, by which a place in [0, 1) becomes a log SNR.
    reach = np.concatenate([[0.0], np.cumsum(density * np.diff(edges))])
    reach /= reach[-1]
    rng = noise.generator(seed, "bound", 0, 1 << 33)
    places = (rng.permutation(len(x) * draws) + rng.random(len(x) * draws)).reshape(len(x), draws) / (len(x) * draws)
    where = np.interp(places, reach, edges)
    weight = 1 / density[np.clip(np.searchsorted(edges, where, "right") - 1, 0, BINS - 1)]
    terms = torch.stack([
        _integrand(read, torch.from_numpy(where[:, k]), seed, k) * torch.from_numpy(weight[:, k] / draws).to(read.x)
        for k in range(draws)], 1)
    first, last = read.schedule.time(most), read.schedule.time(least)
    z = draw(read.encoder.kernel(read.x, first), read.eps(seed, "bound", 0, 1 << 34))
    return Bound(prior_gap(read, last), terms.sum(1), reconstruction(read.x, read(z, first), levels), terms,
                 torch.from_numpy(where), f"continuous, {draws} {proposal} draws, log SNR {most:.3g} to {least:.3g}",
                 math.prod(denoiser.shape), levels)


def _integrand(read: Reader, log_snr: Tensor, seed: int, number: int) -> Tensor:
    """|eps - eps-hat|^2 / 2 at one log SNR for each row, (B,)."""
    t, eps = read.schedule.time(log_snr), read.eps(seed, "bound", number, 1 << 35)
    z = draw(read.encoder.kernel(read.x, t), eps)
    return 0.5 * flat((eps - read(z, as_time(t)).eps) ** 2).sum(1)


def _proposal(denoiser: Denoiser, read: Reader, edges: np.ndarray, seed: int) -> np.ndarray:
    """A density of log SNR over the bins, in proportion to the root mean square of the integrand in each."""
    rows, conditions = min(PILOT, len(read.x)), read.batched.conditions
    pilot = Reader(denoiser, read.x[:rows], None if conditions is None else conditions[:rows])
    middle = torch.from_numpy((edges[1:] + edges[:-1]) / 2)
    size = np.array([float(_integrand(pilot, value.expand(rows), seed, (1 << 20) + k).square().mean().sqrt())
                     for k, value in enumerate(middle)])
    even = np.full(len(size), 1 / (edges[-1] - edges[0]))
    if not size.sum():
        return even
    return FLOOR * even + (1 - FLOOR) * size / (size * np.diff(edges)).sum()
