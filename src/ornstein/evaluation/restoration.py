"""Restoration of held-out rows from their own measurements: how accurate the draws are, and how well calibrated."""

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
from ornstein.data import Dataset
from ornstein.diffusion.denoiser import Denoiser, reference_tensor
from ornstein.diffusion.editing.operator import Operator, read_operator
from ornstein.diffusion.editing.posterior import posterior
from ornstein.diffusion.editing.restore import NFE
from ornstein.evaluation.intervals import pooled_interval, pooled_share_interval
from ornstein.evaluation.likelihoods import shrunk_covariance
from ornstein.evaluation.pieces import Pieces
from ornstein.evaluation.preparation import Rows
from ornstein.evaluation.results import NORMAL, Calibration, Interval, Restoration
from ornstein.figures.restored import draw_restorations

__all__ = [
    "BINS",
    "as_sample",
    "calibration",
    "gaussian_crps",
    "linear_estimate",
    "operator_names",
    "restoration",
    "restoration_seconds",
    "scores",
    "unmeasured",
]

BINS = 20  # of ranks; draws plus truth are a multiple of it, so that intervals contain whole ranks
BLOCK = 10  # rows that are restored together
MIN_ROWS, MAX_ROWS = 30, 100  # rows that an evaluation restores
SECONDS = 120.0  # that an operator may take beyond the smallest number of rows
DRAWS, FEW_DRAWS, FEW_VALUES = 39, 19, 1024  # draws of a row; fewer for samples of more values
VALUES = 2**26  # largest number of values in all draws
LINEAR, FITTED = 4096, 2**24  # largest numbers of values, of a sample and in total, that a covariance is fitted to


def operator_names(restore: str | Sequence[str], deviation: float, shape: tuple[int, ...]) -> list[str]:
    """The names of operators as a list; ValueError if one does not fit samples of that shape or leaves nothing open."""
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
        if not deviation and not unmeasured(read_operator(name, shape)).any():
            raise ValueError(f"restore is {name!r}, which measures every value of these samples without noise, so "
                             "nothing is left to restore; measure less, such as mask=0.5")
    return names


def restoration(model: Denoiser, name: str, deviation: float, training: Dataset, unseen: Dataset, seed: int, *,
                pieces: Pieces, index: int, span: tuple[float, float]) -> tuple[Restoration, Image.Image | None]:
    """Restore held-out rows from their own measurements; also return a picture of the first ones.

    There are 30 to 100 rows, as many as time permits, judging by the first ten. The work takes the part of the
    evaluation from share `span[0]` to `span[1]`.
    """
    spec, operator, data = unseen.spec, read_operator(name, model.shape), model.gaussian()
    count = _draws(spec.shape)
    rows = Rows.of(unseen, int(min(MAX_ROWS, max(MIN_ROWS, VALUES // (count * math.prod(spec.shape))))), seed)
    y = operator(rows.x.to(reference_tensor(model)))
    y = y + deviation * noise.per_sample(seed, "evaluate", range(len(y)), index, y)

    def share(done: float) -> float:
        return span[0] + (span[1] - span[0]) * done

    def draw(start: int, stop: int, done: float) -> Tensor:
        def compute() -> dict[str, Tensor]:
            condition = None if rows.condition is None else rows.condition[start:stop]
            # Measurements of real rows do not need the checks of `restore`, which warns of implausible ones.
            x = posterior(model, data, y[start:stop], operator, deviation, count, NFE, seed, condition,
                          indices=range(start, stop)).float().cpu().unflatten(0, (-1, count))
            return {"x": spec.on_levels(x.flatten(0, 1)).reshape(x.shape)}

        return pieces.tensors(f"restored-{index}-{start}", compute, share(done))["x"]

    started = pieces.clock()
    blocks = [draw(0, min(BLOCK, len(rows)), BLOCK / len(rows))]
    seconds = max(pieces.clock() - started, 1e-9)
    # Decided once and kept, so that a resumed evaluation ends with the same number of rows.
    total = pieces.figures(f"rows-{index}", lambda: int(np.clip(int(SECONDS / seconds) * BLOCK, MIN_ROWS, len(rows))),
                           int, share(BLOCK / len(rows)))
    blocks += [draw(start, min(start + BLOCK, total), min(start + BLOCK, total) / total)
               for start in range(BLOCK, total, BLOCK)]
    x, truth, measured = torch.cat(blocks), spec.on_levels(rows.x[:total]), y[:total].float().cpu()
    open_values = unmeasured(operator)
    open_values = open_values if open_values.any() else torch.ones_like(open_values)
    open_x, open_truth = (values.flatten(-len(spec.shape))[..., open_values].double().numpy() for values in (x, truth))
    found = calibration(open_truth, open_x)
    linear = linear_estimate(training, operator, measured, deviation, seed)
    linear_crps = linear_error = None
    if linear is not None:
        mean, std = (values[..., open_values] for values in linear)
        linear_crps, linear_error = scores(open_truth, gaussian_crps(open_truth, mean, std), mean)
    return (Restoration(**vars(found), operator=name, noise=deviation, rows=total, draws=count, nfe=NFE,
                        values=int(open_values.sum()), linear_crps=linear_crps, linear_error=linear_error),
            draw_restorations(spec, truth, as_sample(operator, measured), x))


def restoration_seconds(shape: tuple[int, ...], call: float) -> float:
    """Expected seconds of the restored rows, where a row of a network call takes `call` seconds."""
    longest = call * MAX_ROWS * _draws(shape) * NFE
    return min(longest, max(SECONDS, longest * MIN_ROWS / MAX_ROWS))


def _draws(shape: tuple[int, ...]) -> int:
    return DRAWS if math.prod(shape) <= FEW_VALUES else FEW_DRAWS


def unmeasured(operator: Operator) -> Tensor:
    """Which values (D,) of a sample are not measured directly: those that a mask hides, and all values of a blur."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, *operator.shape)))
    return ~torch.isclose(operator.adjoint(operator(x)), x, rtol=1e-6).flatten()


def calibration(truth: np.ndarray, draws: np.ndarray) -> Calibration:
    """How well draws (N, M, D) of a posterior agree with the truth (N, D), with error bars over rows; M + 1 is a
    multiple of 20.

    If truth and draws have the same distribution, the M + 1 ranks of the truth among them are equally likely, so that
    central intervals between draws cover exactly, for any M. Draws that equal the truth share its ranks evenly. Values
    of which the truth and all draws are equal are left out: nothing is uncertain there, and since this condition is
    symmetric in all M + 1, the ranks of the others stay uniform.
    """
    count = draws.shape[1]
    if (count + 1) % BINS:
        raise ValueError(f"draws has {count} a row; it must be one less than a multiple of {BINS}, such as "
                         f"{max(1, round((count + 1) / BINS)) * BINS - 1}")
    below, equal = (draws < truth[:, None]).sum(1), (draws == truth[:, None]).sum(1)
    uncertain = equal < count
    # The weight of a value at each of its ranks, as a cumulative sum of steps up and down.
    steps = np.zeros((len(truth), count + 2))
    row, weight = np.nonzero(uncertain)[0], 1 / (equal[uncertain] + 1)
    np.add.at(steps, (row, below[uncertain]), weight)
    np.add.at(steps, (row, (below + equal)[uncertain] + 1), -weight)
    ranks, values = steps.cumsum(1)[:, :-1], uncertain.sum(1)
    if not values.any():
        raise ValueError("all draws equal the truth, so nothing is uncertain; measure less of each row")

    def inside(level: float) -> Interval:
        tail = round((count + 1) * (1 - level) / 2)
        return pooled_share_interval(ranks[:, tail:count + 1 - tail].sum(1), values)

    bins = [pooled_interval(BINS * share, values) for share in ranks.reshape(len(ranks), BINS, -1).sum(2).T]
    return Calibration(inside(0.5), inside(0.9), tuple(share.value for share in bins),
                       tuple(share.half / NORMAL for share in bins),
                       *scores(truth, _crps(truth, draws), draws.mean(1)))


def scores(truth: np.ndarray, crps: np.ndarray, mean: np.ndarray) -> tuple[Interval, Interval]:
    """Mean CRPS and root mean square error of (N, D) values, with intervals over rows."""
    counts = np.full(len(truth), truth.shape[1])
    square = pooled_interval(np.square(mean - truth).sum(1), counts)
    return pooled_interval(crps.sum(1), counts), Interval(
        math.sqrt(square.value), None, math.sqrt(max(square.low, 0.0)), math.sqrt(square.high))


def _crps(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """E|x - truth| - E|x - x'| / 2 of each value, over pairs of different draws (Ferro 2014)."""
    count = draws.shape[1]
    weight = 2 * np.arange(count)[None, :, None] - (count - 1)
    return np.abs(draws - truth[:, None]).mean(1) - (weight * np.sort(draws, 1)).sum(1) / (count * (count - 1))


def gaussian_crps(truth: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """CRPS of normal distributions in closed form (Gneiting & Raftery 2007, eq. 21)."""
    z = (truth - mean) / np.maximum(deviation, np.finfo(float).tiny ** 0.5)
    # At a deviation of 0 the first term is |truth - mean|.
    return np.where(deviation > 0, deviation * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z)
                                                - 1 / math.sqrt(math.pi)), np.abs(truth - mean))


def linear_estimate(training: Dataset, operator: Operator, y: Tensor, deviation: float,
                    seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean (N, D) and standard deviation (D,) of a Gaussian with the mean and the shrunk covariance of the training
    rows, given measurements (N, *into); None for samples of more than 4,096 values."""
    size = math.prod(operator.shape)
    if size > LINEAR:
        return None
    x = Rows.of(training, FITTED // size, seed).x.flatten(1).double()
    mean_x, matrix = x.mean(0), operator.matrix()
    covariance = shrunk_covariance(x)
    across = covariance @ matrix.T
    covariance_y = matrix @ across + deviation**2 * torch.eye(len(matrix), dtype=torch.float64, device="cpu")
    # A measurement of constant values alone has no variance.
    covariance_y.diagonal().add_(1e-9 * covariance_y.diagonal().mean() + 1e-12)
    gain = torch.cholesky_solve(across.T, torch.linalg.cholesky(covariance_y)).T
    mean = mean_x + (y.flatten(1).double() - matrix @ mean_x) @ gain.T
    variance = covariance.diagonal() - (gain * across).sum(1)
    return mean.numpy(), variance.clamp(min=0).sqrt().numpy()


def as_sample(operator: Operator, y: Tensor) -> Tensor:
    """Measurements (B, *into) as samples to look at: unchanged if they have that shape, else the smallest samples with
    these measurements, for operators whose rows are orthogonal and of one norm (masks, means, waves)."""
    if operator.into == operator.shape:
        return y
    back = operator.adjoint(y)
    return back * (y.square().sum() / back.square().sum().clamp(min=1e-30))
