"""Likelihoods of unseen data under a model, and under Gaussians fitted to its training data for comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ornstein.data import Dataset, DataSpec
from ornstein.diffusion.denoiser import Denoiser, reference_tensor
from ornstein.diffusion.exact import ExactGaussian
from ornstein.diffusion.level import as_time
from ornstein.diffusion.likelihood import Bound, bound_times, continuous_elbo, dequantise, elbo, ode_likelihood
from ornstein.diffusion.likelihood.bound import mean_error
from ornstein.diffusion.likelihood.continuous import BINS, PILOT
from ornstein.diffusion.likelihood.times import CLEANEST, bound_range
from ornstein.diffusion.likelihood.variance import optimal_variance
from ornstein.diffusion.schedule import Cosine
from ornstein.evaluation.pieces import Pieces
from ornstein.evaluation.preparation import Rows
from ornstein.evaluation.results import Curve, Likelihood
from ornstein.workers import run_pieces, shared_tensor

__all__ = [
    "METHODS",
    "bound_calls",
    "bounds",
    "flow",
    "flow_blocks",
    "gaussians",
    "shrunk_covariance",
]

T = TypeVar("T")
METHODS = ("elbo", "ode")
DRAWS = 32  # of the continuous bound, for each sample
CHAIN = 64  # steps of the chain whose terms are shown
# Errors of D values change log p by D^(1/2) times as much, so log p gets that tolerance: a stricter one took 691 calls
# instead of 145 for 3,072 values, with the same result.
TOLERANCE = 1e-3  # of the flow's solver: the means agree with those at 1e-4 within their errors
FIRST, PIECE = 4, 64  # rows whose densities are kept as one piece: the first one, and the others
BLOCK = 8  # rows of a piece that one worker follows
FEW_VALUES = 256  # values a sample up to which one worker follows the whole piece
FITTED = 20_000  # largest number of training rows that Gaussians are fitted to
MAX_WIDTH = 1024  # values a sample above which a full covariance is left out


def bounds(model: Denoiser, unseen: Rows, training: Rows, spec: DataSpec, seed: int = 0, steps: int = CHAIN, *,
           pieces: Pieces, costs: Sequence[float] | None = None) -> tuple[list[Likelihood], Curve]:
    """Bounds on the likelihood, and the terms of the chain by log SNR.

    They are the bound in continuous time, that of a chain with the best variances for the training rows, and, for data
    with levels, the first one again on dequantised data. `costs` of these pieces may be in any unit.
    """
    levels, times = spec.bins, bound_times(model.schedule, steps, spec.bins)
    ends = np.cumsum(costs or bound_calls(len(unseen), len(training), levels, steps))
    done, likelihoods = iter((ends / ends[-1]).tolist()), list[Likelihood]()

    def piece(name: str, compute: Callable[[], T], read: Callable[[Any], T]) -> T:
        return pieces.figures(name, compute, read, next(done))

    def continuous(x: Tensor, levels: int | None, log_snr: tuple[float, float] | None = None) -> Bound:
        return continuous_elbo(model, x, levels, DRAWS, seed, condition=unseen.condition, log_snr=log_snr)

    def chain() -> tuple[Likelihood, Curve]:
        bound = elbo(model, unseen.x, times, levels, seed=seed, condition=unseen.condition,
                     variance=torch.tensor(variance, dtype=torch.float64, device="cpu"))
        terms = [mean_error(column) for column in bound.steps.T.flip(0)]
        return _bound_likelihood("chain", "Bound, chain with optimal variances", bound), Curve(
            "bound", tuple(bound.log_snr.flip(0).clamp(-40, 40).tolist()), tuple(mean for mean, _ in terms),
            tuple(error for _, error in terms))

    likelihoods.append(piece("bound", lambda: _bound_likelihood(
        "bound", "Bound, continuous time", continuous(unseen.x, levels)), Likelihood.read))
    variance = piece("variance", lambda: optimal_variance(
        model, training.x, times, seed=seed, condition=training.condition).tolist(), list)
    likelihood, curve = piece("chain", chain, lambda pair: (Likelihood.read(pair[0]), Curve.read(pair[1])))
    likelihoods.append(likelihood)
    if levels is not None:
        # A density of dequantised data: with noise below half a bin the model sees only the levels.
        limits = bound_range(model.schedule, levels, None)[0], 2 * math.log(levels - 1)
        likelihoods.append(piece("dequantised", lambda: _bound_likelihood(
            "bound-dequantised", "Bound, dequantised data",
            continuous(dequantise(unseen.x, levels, seed), None, limits), levels), Likelihood.read))
    return likelihoods, curve


def bound_calls(unseen: int, training: int, levels: int | None, steps: int = CHAIN) -> list[int]:
    """Calls of the network, in rows, for each piece of `bounds`."""
    continuous = DRAWS * unseen + BINS * min(PILOT, unseen)
    return [continuous, steps * training, steps * unseen, *([continuous] if levels is not None else [])]


def flow(model: Denoiser, unseen: Rows, spec: DataSpec, seed: int = 0, *, pieces: Pieces,
         limit: int | None = None) -> Likelihood:
    """The likelihood of the probability-flow ODE on unseen rows, dequantised where the data have levels.

    The density is that of z_t / signal at the time t where the noise has the standard deviation of the dequantisation
    or, for continuous data, at a log SNR of 12: closer to the data, a model of points on levels has spikes there and
    nothing in between. Samples of more than 16 values use a probe of random signs: one is enough, since its error is
    part of the spread of the rows, and so of their standard error. At most `limit` pieces are computed.
    """
    size, levels = math.prod(model.shape), spec.bins
    x = unseen.x if levels is None else dequantise(unseen.x, levels, seed)
    cleanest = CLEANEST if levels is None else 2 * math.log(math.sqrt(3) * (levels - 1))
    t = model.schedule.time(torch.tensor(cleanest, dtype=torch.float64, device="cpu"))
    signal = float(model.schedule.level(as_time(t)).signal)
    divergence = "exact" if size <= 16 else "hutchinson"
    like = reference_tensor(model)

    def density(rows: slice) -> list[float]:
        starts = range(rows.start, rows.stop, BLOCK if size > FEW_VALUES else PIECE)
        log_probs = shared_tensor((rows.stop - rows.start,), like.new_empty(0, dtype=torch.float64, device="cpu"))

        def follow(index: int) -> None:
            block = slice(starts[index], min(starts[index] + starts.step, rows.stop))
            result = ode_likelihood(model, signal * x[block], divergence, t=float(t), tolerance=TOLERANCE, probes=1,
                                    seed=(seed + block.start) % 2**64, nats=TOLERANCE * math.sqrt(size),
                                    condition=None if unseen.condition is None else unseen.condition[block])
            # The density of z / signal, which has the scale of the data.
            log_probs[block.start - rows.start:block.stop - rows.start] = (
                result.log_prob.cpu() + size * math.log(signal))

        for _ in run_pieces(follow, len(starts), like.device):
            pass
        return log_probs.tolist()

    log_prob = list[float]()
    for rows in flow_pieces(len(x))[:limit]:
        log_prob += pieces.figures(f"flow-{rows.start}", partial(density, rows), list, rows.stop / len(x))
    grid = f"flow from log SNR {cleanest:.3g}, {divergence} divergence"
    return _likelihood("ode", "Flow (ODE), dequantised data" if levels else "Flow (ODE)", grid,
                       torch.tensor(log_prob, dtype=torch.float64, device="cpu") + _log_bin_volume(size, levels),
                       size, levels)


def flow_pieces(count: int) -> list[slice]:
    """The rows of each piece of `flow`; the first one is small, to estimate the cost of the others."""
    return [slice(start, stop) for start, stop in pairwise([0, *range(FIRST, count, PIECE), count])]


def flow_blocks(count: int, size: int) -> list[int]:
    """Numbers of rows in the blocks that `flow` follows one after the other."""
    block = BLOCK if size > FEW_VALUES else PIECE
    return [min(block, rows.stop - start) for rows in flow_pieces(count)
            for start in range(rows.start, rows.stop, block)]


def gaussians(unseen: Rows, training: Dataset, seed: int = 0) -> Iterator[Likelihood]:
    """Likelihoods of the same unseen rows, dequantised as for the flow, under one Gaussian and under one a class.

    The covariances are full, with shrunk correlations (Ledoit & Wolf 2004), so that having few rows for many values is
    no handicap.
    """
    spec = training.spec
    size, levels = math.prod(spec.shape), spec.bins
    if size > MAX_WIDTH:
        return
    fitted_rows = Rows.of(training, FITTED, seed)
    x, fit = unseen.x.flatten(1).double(), fitted_rows.x.flatten(1).double()
    if levels is not None:
        x = dequantise(unseen.x, levels, seed).flatten(1).double()
    # The variance of the dequantisation, which is missing from the training rows.
    variance = 0.0 if levels is None else (1 / (levels - 1)) ** 2 / 3

    def gaussian(rows: Tensor) -> ExactGaussian:
        floor = variance * torch.eye(size, dtype=torch.float64, device="cpu")
        return ExactGaussian(rows.mean(0), shrunk_covariance(rows, variance) + floor, Cosine())

    if variance == 0 and not fit.std(0).min() > 0:  # a value that never varies has no density
        return
    volume = _log_bin_volume(size, levels)
    yield _likelihood("gaussian", "Gaussian, full covariance", "", gaussian(fit).log_prob(x) + volume, size, levels)
    labels = fitted_rows.condition
    if labels is None or labels.ndim != 1 or unseen.condition is None or not spec.classes:
        return
    if variance == 0 and not all(fit[labels == label].std(0).min() > 0 for label in unseen.condition.unique()):
        return
    counts = np.bincount(labels[labels >= 0].numpy(), minlength=len(spec.classes))
    if not ((unseen.condition >= 0).all() and (counts[np.unique(unseen.condition.numpy())] >= 2).all()):
        return
    log_prob = torch.zeros(len(x), dtype=torch.float64, device="cpu")
    for label in unseen.condition.unique():
        mask = unseen.condition == label
        log_prob[mask] = gaussian(fit[labels == label]).log_prob(x[mask])
    yield _likelihood("gaussian-class", "Gaussian a class, full covariance", "", log_prob + volume, size, levels)


def shrunk_covariance(rows: Tensor, added_variance: float = 0.0) -> Tensor:
    """Covariance of (N, D) rows with shrunk correlations, for values that have some `added_variance`."""
    from sklearn.covariance import ledoit_wolf

    # Without this scaling, values that hardly vary would get the mean variance of all.
    scale = (rows.var(0) + added_variance).sqrt()
    return torch.from_numpy(ledoit_wolf((rows / scale.clamp(min=1e-12)).numpy())[0]) * scale[:, None] * scale


def _log_bin_volume(size: int, levels: int | None) -> float:
    """Log volume of a bin, which turns the density of dequantised data into a bound on the probability of levels."""
    return 0.0 if levels is None else size * math.log(2 / (levels - 1))


def _bound_likelihood(key: str, name: str, bound: Bound, levels: int | None = None) -> Likelihood:
    terms = tuple((term, *value) for term, value in bound.summary().items() if term != "log_prob")
    levels = bound.levels or levels
    volume = _log_bin_volume(bound.size, levels) if bound.levels is None else 0.0
    return _likelihood(key, name, bound.grid, bound.log_prob + volume, bound.size, levels, terms)


def _likelihood(key: str, name: str, grid: str, nats: Tensor, size: int, levels: int | None,
                terms: tuple[tuple[str, float, float], ...] = ()) -> Likelihood:
    mean, error = mean_error(nats)
    unit = size * math.log(2)
    return Likelihood(key, name, grid, mean, error, len(nats), None if levels is None else -mean / unit,
                      None if levels is None else error / unit, terms, tuple(nats.tolist()))
