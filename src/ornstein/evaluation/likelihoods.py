"""How likely unseen data are under a model, beside Gaussians fitted to its training data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ornstein.data import Dataset, DataSpec
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.exact import ExactGaussian
from ornstein.diffusion.likelihood import (
    Bound,
    bound_times,
    continuous_elbo,
    dequantise,
    elbo,
    ode_likelihood,
    optimal_variance,
)
from ornstein.diffusion.likelihood.bound import mean_error
from ornstein.diffusion.likelihood.times import CLEANEST, span
from ornstein.diffusion.schedule import Cosine, as_time
from ornstein.evaluation.report import Curve, Likelihood
from ornstein.evaluation.rows import Rows

__all__ = ["METHODS", "bounds", "flow", "gaussians"]

METHODS = ("elbo", "ode")
DRAWS = 32  # of the continuous bound, a sample
CHAIN = 64  # steps of the chain whose terms are shown
TOLERANCE = 1e-3  # of the flow's solver: the means agree with those of 1e-4 to the last digit that their errors leave
FITTED = 20_000  # training rows, at most, that Gaussians are fitted to
WIDEST = 1024  # values a sample, above which a full covariance is left out


def bounds(model: Denoiser, held: Rows, training: Rows, spec: DataSpec, seed: int = 0,
           steps: int = CHAIN) -> tuple[list[Likelihood], Curve]:
    """The bound in continuous time, that of a chain with optimal variances, and, for data with levels, the first one
    again on dequantised data; and the chain's terms by log SNR.

    Args:
        model: to ask.
        held: unseen rows.
        training: rows that the chain's variances are fitted to.
        spec: of the data.
        seed: of all noise.
        steps: of the chain.
    """
    levels = spec.bins
    through = continuous_elbo(model, held.x, levels, DRAWS, seed, condition=held.told)
    found = [_of_bound("bound", "Bound, continuous time", through)]
    times = bound_times(model.schedule, steps, levels)
    variance = optimal_variance(model, training.x, times, seed=seed, condition=training.told)
    chain = elbo(model, held.x, times, levels, seed=seed, condition=held.told, variance=variance)
    found.append(_of_bound("chain", "Bound, chain with optimal variances", chain))
    if levels is not None:
        # A density of dequantised data: below half a bin of noise the model sees only the levels.
        loose, most = dequantise(held.x, levels, seed), 2 * math.log(levels - 1)
        again = continuous_elbo(model, loose, None, DRAWS, seed, condition=held.told,
                                log_snr=(span(model.schedule, levels, None)[0], most))
        found.append(_of_bound("bound-dequantised", "Bound, dequantised data", again, levels))
    each = [mean_error(column) for column in chain.steps.T.flip(0)]
    curve = Curve("bound", tuple(chain.log_snr.flip(0).clamp(-40, 40).tolist()), tuple(mean for mean, _ in each),
                  tuple(error for _, error in each))
    return found, curve


def flow(model: Denoiser, held: Rows, spec: DataSpec, seed: int = 0, probes: int = 2,
         tell: Callable[[float], None] | None = None) -> Likelihood:
    """The likelihood of the probability-flow ODE on unseen rows, dequantised where the data have levels.

    The density meant is that of z_t / signal at the time t where the noise has the deviation of the dequantisation,
    or, for continuous data, at a log SNR of 12: closer to the data a model of points on levels has spikes there and
    nothing between.

    Args:
        model: to ask.
        held: unseen rows.
        spec: of the data.
        seed: of dequantisation and probes.
        probes: random signs a sample, for samples of more than 16 values; exact below.
        tell: called with the share that is done.
    """
    size, levels = math.prod(model.shape), spec.bins
    x = held.x if levels is None else dequantise(held.x, levels, seed)
    most = CLEANEST if levels is None else 2 * math.log(math.sqrt(3) * (levels - 1))
    t = model.schedule.time(torch.tensor(most, dtype=torch.float64, device="cpu"))
    signal = float(model.schedule.level(as_time(t)).signal)
    divergence = "exact" if size <= 16 else "hutchinson"
    log_prob = []
    for start in range(0, len(x), 64):
        part = slice(start, start + 64)
        found = ode_likelihood(model, signal * x[part], divergence, t=float(t), tolerance=TOLERANCE, probes=probes,
                               seed=(seed + start) % 2**64, condition=None if held.told is None else held.told[part])
        # The density of z / signal, which lies where the data lie.
        log_prob.append(found.log_prob + size * math.log(signal))
        if tell:
            tell(min(1.0, (start + 64) / len(x)))
    words = f"flow from log SNR {most:.3g}, {divergence} divergence"
    return _likelihood("ode", "Flow (ODE), dequantised data" if levels else "Flow (ODE)", words,
                       torch.cat(log_prob) + _of_bins(size, levels), size, levels)


def gaussians(held: Rows, training: Dataset, seed: int = 0) -> Iterator[Likelihood]:
    """One Gaussian with a full covariance, and one a class, on the same unseen rows, dequantised as for the flow.

    Correlations are shrunk as Ledoit & Wolf (2004) advise, so that few rows for many values are no handicap.
    """
    from sklearn.covariance import ledoit_wolf

    spec = training.spec
    size, levels = math.prod(spec.shape), spec.bins
    if size > WIDEST:
        return
    known = Rows.of(training, FITTED, seed)
    x, fit = held.x.flatten(1).double(), known.x.flatten(1).double()
    if levels is not None:
        x = dequantise(held.x, levels, seed).flatten(1).double()
    # The variance of the dequantisation, which unseen data have and the training rows here have not.
    spread = 0.0 if levels is None else (1 / (levels - 1)) ** 2 / 3

    def fitted(rows: Tensor) -> ExactGaussian:
        # Shrunk as they are, values that hardly vary would be given the mean variance of all.
        scale = (rows.var(0) + spread).sqrt()
        covariance = torch.from_numpy(ledoit_wolf((rows / scale).numpy())[0]) * scale[:, None] * scale
        floor = spread * torch.eye(size, dtype=torch.float64, device="cpu")
        return ExactGaussian(rows.mean(0), covariance + floor, Cosine())

    if spread == 0 and not fit.std(0).min() > 0:  # a value that never varies has no density
        return
    yield _likelihood("gaussian", "Gaussian, full covariance", "", fitted(fit).log_prob(x) + _of_bins(size, levels),
                      size, levels)
    labels = known.told
    if labels is None or labels.ndim != 1 or held.told is None or not spec.classes:
        return
    if spread == 0 and not all(fit[labels == label].std(0).min() > 0 for label in held.told.unique()):
        return
    counts = np.bincount(labels[labels >= 0].numpy(), minlength=len(spec.classes))
    if not ((held.told >= 0).all() and (counts[np.unique(held.told.numpy())] >= 2).all()):
        return
    log_prob = torch.zeros(len(x), dtype=torch.float64, device="cpu")
    for label in held.told.unique():
        mine = held.told == label
        log_prob[mine] = fitted(fit[labels == label]).log_prob(x[mine])
    yield _likelihood("gaussian-class", "Gaussian a class, full covariance", "", log_prob + _of_bins(size, levels),
                      size, levels)


def _of_bins(size: int, levels: int | None) -> float:
    """Log volume of a bin: from the density of dequantised data to a bound on the probability of a level."""
    return 0.0 if levels is None else size * math.log(2 / (levels - 1))


def _of_bound(key: str, name: str, bound: Bound, levels: int | None = None) -> Likelihood:
    terms = tuple((term, *value) for term, value in bound.summary().items() if term != "log_prob")
    levels = bound.levels or levels
    more = _of_bins(bound.size, levels) if bound.levels is None else 0.0
    return _likelihood(key, name, bound.grid, bound.log_prob + more, bound.size, levels, terms)


def _likelihood(key: str, name: str, grid: str, nats: Tensor, size: int, levels: int | None,
                terms: tuple[tuple[str, float, float], ...] = ()) -> Likelihood:
    mean, error = mean_error(nats)
    unit = size * math.log(2)
    return Likelihood(key, name, grid, mean, error, len(nats), None if levels is None else -mean / unit,
                      None if levels is None else error / unit, terms, tuple(nats.tolist()))
