"""How likely unseen data are under a model, beside Gaussians fitted to its training data."""

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
from ornstein.diffusion.denoiser import Denoiser, kind_of
from ornstein.diffusion.exact import ExactGaussian
from ornstein.diffusion.level import as_time
from ornstein.diffusion.likelihood import Bound, bound_times, continuous_elbo, dequantise, elbo, ode_likelihood
from ornstein.diffusion.likelihood.bound import mean_error
from ornstein.diffusion.likelihood.continuous import BINS, PILOT
from ornstein.diffusion.likelihood.times import CLEANEST, span
from ornstein.diffusion.likelihood.variance import optimal_variance
from ornstein.diffusion.schedule import Cosine
from ornstein.evaluation.kept import Pieces
from ornstein.evaluation.results import Curve, Likelihood
from ornstein.evaluation.rows import Rows
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["METHODS", "bounds", "calls_of_bounds", "flow", "flow_blocks", "gaussians",
           "shrunk_covariance"]

T = TypeVar("T")
METHODS = ("elbo", "ode")
DRAWS = 32  # of the continuous bound, a sample
CHAIN = 64  # steps of the chain whose terms are shown
# Such errors of D values change log p by D^(1/2) times as much: to be stricter with it is of no use, and cost 691 calls
# in place of 145 for 3,072 values, with the same digits.
TOLERANCE = 1e-3  # of the flow's solver: the means agree with those of 1e-4 to the last digit that their errors leave
FIRST, TOGETHER = 4, 64  # rows whose densities are kept together
BLOCK = 8  # of them, that one worker follows
FEW_VALUES = 256  # a sample, up to which one worker follows them all
FITTED = 20_000  # training rows, at most, that Gaussians are fitted to
WIDEST = 1024  # values a sample, above which a full covariance is left out


def bounds(model: Denoiser, unseen: Rows, training: Rows, spec: DataSpec, seed: int = 0, steps: int = CHAIN, *,
           piece: Pieces, costs: Sequence[float] | None = None) -> tuple[list[Likelihood], Curve]:
    """The bound in continuous time, that of a chain with the best variances for the training rows, and, for data with
    levels, the first one again on dequantised data; and the chain's terms by log SNR. The pieces' `costs` are in any
    unit."""
    levels, times = spec.bins, bound_times(model.schedule, steps, spec.bins)
    ends = np.cumsum(costs or calls_of_bounds(len(unseen), len(training), levels, steps))
    done, likelihoods = iter((ends / ends[-1]).tolist()), list[Likelihood]()

    def through(name: str, make: Callable[[], T], read: Callable[[Any], T]) -> T:
        return piece(name, make, read, next(done))

    def continuous(x: Tensor, levels: int | None, log_snr: tuple[float, float] | None = None) -> Bound:
        return continuous_elbo(model, x, levels, DRAWS, seed, condition=unseen.condition, log_snr=log_snr)

    def chain() -> tuple[Likelihood, Curve]:
        bound = elbo(model, unseen.x, times, levels, seed=seed, condition=unseen.condition,
                     variance=torch.tensor(variance, dtype=torch.float64, device="cpu"))
        terms = [mean_error(column) for column in bound.steps.T.flip(0)]
        return _of_bound("chain", "Bound, chain with optimal variances", bound), Curve(
            "bound", tuple(bound.log_snr.flip(0).clamp(-40, 40).tolist()), tuple(mean for mean, _ in terms),
            tuple(error for _, error in terms))

    likelihoods.append(through("bound", lambda: _of_bound(
        "bound", "Bound, continuous time", continuous(unseen.x, levels)), Likelihood.read))
    variance = through("variance", lambda: optimal_variance(
        model, training.x, times, seed=seed, condition=training.condition).tolist(), list)
    one, curve = through("chain", chain, lambda two: (Likelihood.read(two[0]), Curve.read(two[1])))
    likelihoods.append(one)
    if levels is not None:
        # A density of dequantised data: below half a bin of noise the model sees only the levels.
        limits = span(model.schedule, levels, None)[0], 2 * math.log(levels - 1)
        likelihoods.append(through("dequantised", lambda: _of_bound(
            "bound-dequantised", "Bound, dequantised data",
            continuous(dequantise(unseen.x, levels, seed), None, limits), levels), Likelihood.read))
    return likelihoods, curve


def calls_of_bounds(unseen: int, training: int, levels: int | None, steps: int = CHAIN) -> list[int]:
    """Network calls, a row each, of the pieces of `bounds`."""
    continuous = DRAWS * unseen + BINS * min(PILOT, unseen)
    return [continuous, steps * training, steps * unseen, *([continuous] if levels is not None else [])]


def flow(model: Denoiser, unseen: Rows, spec: DataSpec, seed: int = 0, *, piece: Pieces,
         most: int | None = None) -> Likelihood:
    """The likelihood of the probability-flow ODE on unseen rows, dequantised where the data have levels.

    The density meant is that of z_t / signal at the time t where the noise has the deviation of the dequantisation, or,
    for continuous data, at a log SNR of 12: closer to the data a model of points on levels has spikes there and nothing
    between. Samples of more than 16 values take random signs as probes: one is enough, since what it misses a row by is
    a part of the spread of the rows, and of their error. At `most` so many pieces are done.
    """
    size, levels = math.prod(model.shape), spec.bins
    x = unseen.x if levels is None else dequantise(unseen.x, levels, seed)
    cleanest = CLEANEST if levels is None else 2 * math.log(math.sqrt(3) * (levels - 1))
    t = model.schedule.time(torch.tensor(cleanest, dtype=torch.float64, device="cpu"))
    signal = float(model.schedule.level(as_time(t)).signal)
    divergence = "exact" if size <= 16 else "hutchinson"

    like = kind_of(model)

    def density(rows: slice) -> list[float]:
        starts = range(rows.start, rows.stop, BLOCK if size > FEW_VALUES else TOGETHER)
        log_probs = shared_tensor((rows.stop - rows.start,), like.new_empty(0, dtype=torch.float64, device="cpu"))

        def follow(number: int) -> None:
            some = slice(starts[number], min(starts[number] + starts.step, rows.stop))
            flow = ode_likelihood(model, signal * x[some], divergence, t=float(t), tolerance=TOLERANCE, probes=1,
                                  seed=(seed + some.start) % 2**64, nats=TOLERANCE * math.sqrt(size),
                                  condition=None if unseen.condition is None else unseen.condition[some])
            # The density of z / signal, which lies where the data lie.
            log_probs[some.start - rows.start:some.stop - rows.start] = flow.log_prob.cpu() + size * math.log(signal)

        for _ in run_pieces(follow, len(starts), like.device):
            pass
        return log_probs.tolist()

    log_prob = list[float]()
    for rows in flow_rows(len(x))[:most]:
        log_prob += piece(f"flow-{rows.start}", partial(density, rows), list, rows.stop / len(x))
    words = f"flow from log SNR {cleanest:.3g}, {divergence} divergence"
    return _likelihood("ode", "Flow (ODE), dequantised data" if levels else "Flow (ODE)", words,
                       torch.tensor(log_prob, dtype=torch.float64, device="cpu") + _of_bins(size, levels), size, levels)


def flow_rows(count: int) -> list[slice]:
    """The rows whose densities are kept together: first a few, by which their cost is known."""
    return [slice(start, stop) for start, stop in pairwise([0, *range(FIRST, count, TOGETHER), count])]


def flow_blocks(count: int, size: int) -> list[int]:
    """How many rows are followed together, one such block after the other."""
    block = BLOCK if size > FEW_VALUES else TOGETHER
    return [min(block, rows.stop - start) for rows in flow_rows(count)
            for start in range(rows.start, rows.stop, block)]


def gaussians(unseen: Rows, training: Dataset, seed: int = 0) -> Iterator[Likelihood]:
    """One Gaussian and one a class, with full covariances, on the same unseen rows, dequantised as for the flow;
    correlations are shrunk (Ledoit & Wolf 2004), so that few rows for many values are no handicap."""
    spec = training.spec
    size, levels = math.prod(spec.shape), spec.bins
    if size > WIDEST:
        return
    known = Rows.of(training, FITTED, seed)
    x, fit = unseen.x.flatten(1).double(), known.x.flatten(1).double()
    if levels is not None:
        x = dequantise(unseen.x, levels, seed).flatten(1).double()
    # The variance of the dequantisation, which unseen data have and the training rows here have not.
    spread = 0.0 if levels is None else (1 / (levels - 1)) ** 2 / 3

    def fitted(rows: Tensor) -> ExactGaussian:
        floor = spread * torch.eye(size, dtype=torch.float64, device="cpu")
        return ExactGaussian(rows.mean(0), shrunk_covariance(rows, spread) + floor, Cosine())

    if spread == 0 and not fit.std(0).min() > 0:  # a value that never varies has no density
        return
    yield _likelihood("gaussian", "Gaussian, full covariance", "", fitted(fit).log_prob(x) + _of_bins(size, levels),
                      size, levels)
    labels = known.condition
    if labels is None or labels.ndim != 1 or unseen.condition is None or not spec.classes:
        return
    if spread == 0 and not all(fit[labels == label].std(0).min() > 0 for label in unseen.condition.unique()):
        return
    counts = np.bincount(labels[labels >= 0].numpy(), minlength=len(spec.classes))
    if not ((unseen.condition >= 0).all() and (counts[np.unique(unseen.condition.numpy())] >= 2).all()):
        return
    log_prob = torch.zeros(len(x), dtype=torch.float64, device="cpu")
    for label in unseen.condition.unique():
        mine = unseen.condition == label
        log_prob[mine] = fitted(fit[labels == label]).log_prob(x[mine])
    yield _likelihood("gaussian-class", "Gaussian a class, full covariance", "", log_prob + _of_bins(size, levels),
                      size, levels)


def shrunk_covariance(rows: Tensor, more: float = 0.0) -> Tensor:
    """Covariance of (N, D) rows whose correlations are shrunk, with `more` variance that the values have."""
    from sklearn.covariance import ledoit_wolf

    # Shrunk as they are, values that hardly vary would be given the mean variance of all.
    scale = (rows.var(0) + more).sqrt()
    return torch.from_numpy(ledoit_wolf((rows / scale.clamp(min=1e-12)).numpy())[0]) * scale[:, None] * scale


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
