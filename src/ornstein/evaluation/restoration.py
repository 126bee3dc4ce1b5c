"""Held-out rows restored from their own measurements: how far off the draws are, and how sure of it the model is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from ornstein import noise
from ornstein.arguments import require_float, short_repr
from ornstein.data import Dataset, DataSpec
from ornstein.diffusion.denoiser import Denoiser, kind_of
from ornstein.diffusion.editing.operator import Operator, read_operator
from ornstein.diffusion.editing.posterior import posterior
from ornstein.diffusion.editing.restore import NFE
from ornstein.evaluation.intervals import pooled_interval, pooled_share_interval
from ornstein.evaluation.kept import Pieces
from ornstein.evaluation.likelihoods import shrunk_covariance
from ornstein.evaluation.results import NORMAL, Calibration, Interval, Restoration
from ornstein.evaluation.rows import Rows
from ornstein.figures.restored import restored

__all__ = ["BINS", "as_sample", "calibration", "gaussian_crps", "hidden", "linear_estimate", "operators",
           "restoration", "scores", "seconds_of_rows"]

BINS = 20  # of ranks; the draws and the truth together are a multiple of it, so that intervals hold whole ranks
BLOCK, LEAST, MOST = 10, 30, 100  # rows that are restored together, and that an evaluation restores
SECONDS = 120.0  # that an operator may take, beyond the fewest rows
DRAWS, FEW_DRAWS, FEW_VALUES = 39, 19, 1024  # of a row; fewer where a sample has more values
VALUES = 2**26  # of all draws, at most
LINEAR, FITTED = 4096, 2**24  # values of a sample that a covariance is fitted to, and of all rows for that


def operators(restore: str | Sequence[str], deviation: float, shape: tuple[int, ...]) -> list[str]:
    """The names of operators in a list, if each is one for samples of that shape and leaves something open."""
    if require_float("noise", deviation) < 0:
        raise ValueError(f"noise is {deviation:g}; it must be a standard deviation, at least 0")
    names = [restore] if isinstance(restore, str) else list(restore)
    if deviation and not names:
        raise ValueError(f"noise is {deviation:g}, but nothing is measured; give restore too, such as mask=0.5, or "
                         "leave noise out")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"restore is {short_repr(name)}; it must be the name of an operator, such as 'mask=0.5', "
                            "or a list of names")
        if not deviation and not hidden(read_operator(name, shape)).any():
            raise ValueError(f"restore is {name!r}, which measures every value of these samples without noise, so that "
                             "nothing is left to restore; measure less, such as mask=0.5")
    return names


def restoration(model: Denoiser, name: str, deviation: float, training: Dataset, unseen: Dataset, seed: int, *,
                piece: Pieces, number: int, share: tuple[float, float]) -> tuple[Restoration, Image.Image | None]:
    """Held-out rows drawn back from their own measurements, at most 100 and at least 30 of them: as many as there is
    time for after the first ten; and a picture of the first ones."""
    spec, operator, data = unseen.spec, read_operator(name, model.shape), model.gaussian()
    count = _draws(spec.shape)
    rows = Rows.of(unseen, int(min(MOST, max(LEAST, VALUES // (count * math.prod(spec.shape))))), seed)
    y = operator(rows.x.to(kind_of(model)))
    y = y + deviation * noise.per_sample(seed, "evaluate", range(len(y)), number, y)

    def drawn(start: int, stop: int, done: float) -> Tensor:
        def make() -> dict[str, Tensor]:
            told = None if rows.condition is None else rows.condition[start:stop]
            # Measurements of real rows need none of the checks of `restore`, which warns of strange ones.
            x = posterior(model, data, y[start:stop], operator, deviation, count, NFE, seed, told,
                          numbers=range(start, stop)).float().cpu().unflatten(0, (-1, count))
            return {"x": _on_levels(spec, x.flatten(0, 1)).reshape(x.shape)}

        return piece.tensors(f"restored-{number}-{start}", make, share[0] + (share[1] - share[0]) * done)["x"]

    started = piece.clock()
    parts = [drawn(0, min(BLOCK, len(rows)), BLOCK / len(rows))]
    took = max(piece.clock() - started, 1e-9)
    # Decided once, and kept: what goes on later ends with as many.
    many = piece(f"rows-{number}", lambda: int(np.clip(int(SECONDS / took) * BLOCK, LEAST, len(rows))), int,
                 share[0] + (share[1] - share[0]) * BLOCK / len(rows))
    parts += [drawn(start, min(start + BLOCK, many), min(start + BLOCK, many) / many)
              for start in range(BLOCK, many, BLOCK)]
    x, truth, seen = torch.cat(parts), _on_levels(spec, rows.x[:many]), y[:many].float().cpu()
    left = hidden(operator)
    left = left if left.any() else torch.ones_like(left)
    flat, true = (part.flatten(-len(spec.shape))[..., left].double().numpy() for part in (x, truth))
    found = calibration(true, flat)
    linear = linear_estimate(training, operator, seen, deviation, seed)
    scored = (None, None) if linear is None else scores(
        true, gaussian_crps(true, *(part[..., left] for part in linear)), linear[0][:, left])
    return (Restoration(**vars(found), operator=name, noise=deviation, rows=many, draws=count, nfe=NFE,
                        values=int(left.sum()), linear_crps=scored[0], linear_error=scored[1]),
            restored(spec, truth, as_sample(operator, seen), x))


def seconds_of_rows(shape: tuple[int, ...], call: float) -> float:
    """Seconds that the restored rows take, where a row of a network call takes so many."""
    all_of = call * MOST * _draws(shape) * NFE
    return min(all_of, max(SECONDS, all_of * LEAST / MOST))


def _draws(shape: tuple[int, ...]) -> int:
    return DRAWS if math.prod(shape) <= FEW_VALUES else FEW_DRAWS


def _on_levels(spec: DataSpec, x: Tensor) -> Tensor:
    return spec.encode(spec.decode(x)) if spec.rounds else x


def hidden(operator: Operator) -> Tensor:
    """Which values (D,) of a sample are not themselves measured: of a mask those that it hides, of a blur all."""
    one = torch.from_numpy(np.random.default_rng(0).standard_normal((1, *operator.shape)))
    return ~torch.isclose(operator.adjoint(operator(one)), one, rtol=1e-6).flatten()


def calibration(truth: np.ndarray, draws: np.ndarray) -> Calibration:
    """How draws (N, M, D) of a posterior go with the truth (N, D), with error bars over rows; M + 1 is a multiple of
    20.

    If the truth is as one of the draws, it has each of the M + 1 ranks among them equally often, so that central
    intervals between draws cover exactly, for any M. Values that equal the truth share its ranks evenly. Values of
    which the truth and all draws are the same are left out: nothing is uncertain there, and since that is a matter of
    all M + 1 alike, the ranks of the others stay even.
    """
    count = draws.shape[1]
    if (count + 1) % BINS:
        raise ValueError(f"draws has {count} a row; it must be one less than a multiple of {BINS}, such as "
                         f"{max(1, round((count + 1) / BINS)) * BINS - 1}")
    below, equal = (draws < truth[:, None]).sum(1), (draws == truth[:, None]).sum(1)
    open_ = equal < count
    # The share of a value at each of its ranks, as the sum of steps up and down.
    steps = np.zeros((len(truth), count + 2))
    row, share = np.nonzero(open_)[0], 1 / (equal[open_] + 1)
    np.add.at(steps, (row, below[open_]), share)
    np.add.at(steps, (row, (below + equal)[open_] + 1), -share)
    ranks, values = steps.cumsum(1)[:, :-1], open_.sum(1)
    if not values.any():
        raise ValueError("draws are all equal to the truth; nothing is uncertain here, so measure less of each row")

    def inside(level: float) -> Interval:
        tail = round((count + 1) * (1 - level) / 2)
        return pooled_share_interval(ranks[:, tail:count + 1 - tail].sum(1), values)

    even = [pooled_interval(BINS * some, values) for some in ranks.reshape(len(ranks), BINS, -1).sum(2).T]
    return Calibration(inside(0.5), inside(0.9), tuple(one.value for one in even),
                       tuple(one.half / NORMAL for one in even),
                       *scores(truth, _crps(truth, draws), draws.mean(1)))


def scores(truth: np.ndarray, crps: np.ndarray, mean: np.ndarray) -> tuple[Interval, Interval]:
    """Mean CRPS and root mean square error of (N, D) values, with intervals over rows."""
    every = np.full(len(truth), truth.shape[1])
    square = pooled_interval(np.square(mean - truth).sum(1), every)
    return pooled_interval(crps.sum(1), every), Interval(
        math.sqrt(square.value), None, math.sqrt(max(square.low, 0.0)), math.sqrt(square.high))


def _crps(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """E|x - truth| - E|x - x'| / 2 of each value, over pairs of different draws (Ferro 2014)."""
    count = draws.shape[1]
    weight = 2 * np.arange(count)[None, :, None] - (count - 1)
    return np.abs(draws - truth[:, None]).mean(1) - (weight * np.sort(draws, 1)).sum(1) / (count * (count - 1))


def gaussian_crps(truth: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """CRPS of normal laws in closed form (Gneiting & Raftery 2007, eq. 21)."""
    z = (truth - mean) / np.maximum(deviation, np.finfo(float).tiny ** 0.5)
    # At a deviation of 0 the first term is |truth - mean|.
    return np.where(deviation > 0, deviation * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z)
                                                - 1 / math.sqrt(math.pi)), np.abs(truth - mean))


def linear_estimate(training: Dataset, operator: Operator, y: Tensor, deviation: float,
                    seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean (N, D) and deviation (D,) of a Gaussian with the mean and the shrunk covariance of the training rows, given
    measurements (N, *into); None for samples of more than 4,096 values."""
    size = math.prod(operator.shape)
    if size > LINEAR:
        return None
    known = Rows.of(training, FITTED // size, seed).x.flatten(1).double()
    middle, matrix = known.mean(0), operator.matrix()
    covariance = shrunk_covariance(known)
    across = covariance @ matrix.T
    seen = matrix @ across + deviation**2 * torch.eye(len(matrix), dtype=torch.float64, device="cpu")
    # Values that never vary have no variance, and neither has what is measured of them alone.
    seen.diagonal().add_(1e-9 * seen.diagonal().mean() + 1e-12)
    gain = torch.cholesky_solve(across.T, torch.linalg.cholesky(seen)).T
    mean = middle + (y.flatten(1).double() - matrix @ middle) @ gain.T
    variance = covariance.diagonal() - (gain * across).sum(1)
    return mean.numpy(), variance.clamp(min=0).sqrt().numpy()


def as_sample(operator: Operator, y: Tensor) -> Tensor:
    """Measurements (B, *into) as samples to look at: as they are where they have that shape, or else the shortest ones
    that they can be of, for operators whose rows are orthogonal and of one size (masks, means, waves)."""
    if operator.into == operator.shape:
        return y
    back = operator.adjoint(y)
    return back * (y.square().sum() / back.square().sum().clamp(min=1e-30))
