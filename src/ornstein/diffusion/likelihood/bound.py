"""The evidence lower bound of the chain, term by term (section 20.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from ornstein import noise
from ornstein.arguments import require, require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.decoder import VARIANCES, reverse_law
from ornstein.diffusion.denoiser import Batched, Denoiser, reference_tensor
from ornstein.diffusion.encoder import Encoder, draw, gaussian
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import as_time
from ornstein.diffusion.likelihood.levels import bin_log_prob, check_levels
from ornstein.diffusion.likelihood.times import bound_times, describe, increasing_times
from ornstein.isolation import isolated

__all__ = ["ROWS", "Bound", "Float64Model", "elbo", "flat", "mean_error", "prior_gap", "reconstruction"]

ROWS = 256  # per network call


@dataclass(frozen=True)
class Bound:
    """A lower bound on log p(x) and its terms, in nats, one entry per sample.

    Args:
        prior: (B,) divergence of q(z_last | x) from the prior.
        diffusion: (B,) sum of `steps`.
        reconstruction: (B,) E log p(x | z_first).
        steps: (B, n) divergences, least noise first; of a continuous bound, the contribution of each draw.
        log_snr: (n,) of the noisier end of each step; (B, n) of a continuous bound, of each draw.
        grid: description of the times, on which the value depends.
        size: values in a sample.
        levels: of the data, None for a density.
    """

    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor
    steps: Tensor
    log_snr: Tensor
    grid: str
    size: int
    levels: int | None = None

    @property
    def log_prob(self) -> Tensor:
        """reconstruction - prior - diffusion, (B,) nats: an unbiased draw of a bound on log p(x)."""
        return self.reconstruction - self.prior - self.diffusion

    @property
    def bits_per_dim(self) -> Tensor:
        """-log_prob in bits per value, (B,).

        Raises:
            ValueError: data without levels, which have a density and no bits.
        """
        if self.levels is None:
            raise ValueError("levels is None; bits per dimension need probabilities of data with levels, and this "
                             "bound is on a density (give levels)")
        return -self.log_prob / (self.size * math.log(2))

    def summary(self) -> dict[str, tuple[float, float]]:
        """Mean over the samples and its standard error, in nats, of each term and of log_prob."""
        return {name: mean_error(getattr(self, name)) for name in ("reconstruction", "prior", "diffusion", "log_prob")}


def flat(x: Tensor) -> Tensor:
    """Samples as rows of values, (B, D), even if a sample is a single number."""
    return x.reshape(len(x), -1)


def mean_error(values: Tensor) -> tuple[float, float]:
    """Mean of (B,) values and its standard error, NaN for a single value."""
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


class Float64Model:
    """A denoiser in float64, whatever its own dtype, with the data x, (B, *shape), that it is evaluated on."""

    def __init__(self, denoiser: Denoiser, x: Tensor, condition: Condition = None) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"x is a {type(x).__name__}; it must be a tensor (torch.as_tensor makes one of an array)")
        if x.ndim < 1 or x.shape[1:] != denoiser.shape or not len(x):
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be (B, {', '.join(map(str, denoiser.shape))}) "
                             "with B >= 1")
        if lost := int((~x.isfinite()).sum()):
            raise ValueError(f"x holds {lost} values that are not finite; every value must be a finite number")
        self.like = reference_tensor(denoiser)
        self.x = x.detach().to(self.like.device).double()
        conditions = denoiser.read_condition(condition, len(x), "cpu")
        self.batched, self.encoder = Batched(denoiser, conditions, min(ROWS, len(x))), Encoder(denoiser.schedule)
        self.schedule = denoiser.schedule

    def eps(self, seed: int, stream: str, draw: int, step: int) -> Tensor:
        """Standard normal noise like x; row i has the same noise in any batch that begins with the same rows."""
        return noise.normal(seed, stream, draw, step, tuple(self.x.shape), self.x)

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor) -> Estimate:
        """The estimate at float64 latents z, in float64."""
        v = self.batched(z.to(self.like.dtype), t).v.double()
        return Estimate.from_v(v, z, self.schedule.level(as_time(t)))


@isolated(gradients=False, evaluating=True)
def elbo(denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor | None = None, levels: int | None = None,
         draws: int = 1, seed: int = 0, *, condition: Condition = None,
         variance: str | Tensor = "posterior") -> Bound:
    """The evidence lower bound of the chain of `Decoder` on a grid of times (Ho et al. 2020, equation 5).

    log p(x) >= E log p(x | z_1) - KL(q(z_n | x) || N(0, (signal^2 + noise^2) I))
                - sum over steps of KL(q(z_s | z_t, x) || p(z_s | z_t))

    with one latent z_t ~ q(z_t | x) per term and draw. With the posterior variance a term is
    (SNR_s - SNR_t) |x - x-hat|^2 / 2. p(x | z_1) is N(x-hat, (noise / signal)^2), or its probability of x's bin.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) clean data.
        times: strictly increasing, first 0, last <= 1; by default 128 steps even in log SNR (`bound_times`).
        levels: evenly spaced values from -1 to 1 that the data have; None for a density.
        draws: latents per term, >= 1.
        seed: of the noise.
        condition: a class, (B,) classes, a vector, (B, K) vectors, or None.
        variance: of the reverse steps: "posterior", "beta", or a tensor of `optimal_variance` on the same times,
            whose first entry is the variance of p(x | z_1).

    Returns:
        `Bound`, float64.

    Raises:
        ValueError: times that do not increase from 0, data off the levels, shapes that do not fit, draws < 1.
    """
    model = Float64Model(denoiser, x, condition)
    levels = check_levels(x, levels)
    grid = bound_times(denoiser.schedule, levels=levels) if times is None else increasing_times(times)
    first = denoiser.schedule.level(grid[1])
    if first.noise**2 < 1e-300:
        raise ValueError(f"times[1] is {float(grid[1])}, where float64 holds no noise; take a later one")
    if first.signal == 0:
        raise ValueError(f"times[1] is {float(grid[1])}, where the signal is 0 and nothing can be "
                         "reconstructed; take an earlier one")
    draws = require_int("draws", draws)
    if isinstance(variance, Tensor):
        fits = variance.shape[:1] == (len(grid) - 1,) and variance.shape[1:] in ((), denoiser.shape)
        if not fits or not (variance > 0).all():
            raise ValueError(f"variance has shape {tuple(variance.shape)}; it must be ({len(grid) - 1},) or "
                             f"({len(grid) - 1}, *shape), one for each of the intervals of times, and positive")
    else:
        require("variance", variance, VARIANCES)
    terms = torch.zeros(len(x), len(grid) - 2, dtype=torch.float64, device=model.x.device)
    last = torch.zeros(len(x), dtype=torch.float64, device=model.x.device)
    for index in range(draws):
        for k, (s, t) in enumerate(pairwise(grid)):
            z = draw(model.encoder.kernel(model.x, t), model.eps(seed, "bound", index, k))
            estimate = model(z, t)
            fixed = variance[k].to(model.x) if isinstance(variance, Tensor) else None
            if k == 0:
                last += reconstruction(model.x, estimate, levels, fixed) / draws
            else:
                p = reverse_law(estimate, model.schedule, s, t, variance if fixed is None else fixed.expand(z.shape))
                terms[:, k - 1] += kl_divergence(model.encoder.posterior(model.x, z, s, t), p) / draws
    return Bound(prior_gap(model, grid[-1]), terms.sum(1), last, terms, denoiser.schedule.log_snr(grid[2:]),
                 describe(denoiser.schedule, grid), math.prod(denoiser.shape), levels)


def reconstruction(x: Tensor, estimate: Estimate, levels: int | None, variance: Tensor | None = None) -> Tensor:
    """log p(x | z_1), (B,), of x (B, ...) float64: a density, or with levels the probability of x's bin.

    The variance of p(x | z_1) broadcasts against x and is (noise / signal)^2 by default.
    """
    std = estimate.level.noise / estimate.level.signal if variance is None else variance.sqrt()
    if levels is None:
        return gaussian(estimate.x, std.expand(x.shape)).log_prob(x)
    return flat(bin_log_prob(x, estimate.x, std, levels)).sum(1)


def prior_gap(model: Float64Model, t: Tensor) -> Tensor:
    """KL(q(z_t | x) || N(0, (signal^2 + noise^2) I)), (B,) nats: the information about the data in the last latent."""
    q, level = model.encoder.kernel(model.x, t), model.schedule.level(t)
    return kl_divergence(q, gaussian(torch.zeros_like(model.x), level.radius.to(model.x).expand(model.x.shape)))
