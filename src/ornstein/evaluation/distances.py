"""Distances between a set of real samples and a set of generated ones, without error bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Neighbours", "frechet", "kernel", "nearest", "neighbours"]

ENTRIES = 2_000_000  # of one block of a pairwise matrix: 16 MB, of which a few are in memory at once


class Neighbours(NamedTuple):
    """How much two sets overlap, measured by balls around the samples of either set.

    Precision and recall are by Kynkäänniemi et al. (2019), density and coverage by Naeem et al. (2020).
    """

    precision: float  # share of the generated samples inside a ball around a real one
    recall: float  # share of the real samples inside a ball around a generated one
    density: float  # number of balls around real samples that a generated one lies in, over k; may exceed 1
    coverage: float  # share of the real samples with a generated one in their ball


class Gaussian(NamedTuple):
    """A Gaussian: its mean (F,), a factor (F, r) with covariance = factor @ factor.T, and the covariance's trace."""

    mean: np.ndarray
    factor: np.ndarray
    trace: float


def as_rows(name: str, values: np.ndarray, minimum: int) -> np.ndarray:
    """Return samples (N, ...) as finite float64 rows (N, F); ValueError if there are fewer than `minimum`."""
    if len(values) < minimum:
        raise ValueError(f"{name} holds {len(values)} samples; at least {minimum} are needed")
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} holds values that are not finite; every value must be a finite number")
    return rows


def both_as_rows(real: np.ndarray, generated: np.ndarray, minimum: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets as rows of the same width; ValueError if they are not."""
    a, b = as_rows("real", real, minimum), as_rows("generated", generated, minimum)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"generated has {b.shape[1]} values a sample; real has {a.shape[1]}, they must agree")
    return a, b


def frechet(real: np.ndarray, generated: np.ndarray) -> float:
    """Squared Fréchet distance between the Gaussians fitted to (N, ...) and (M, ...) samples, N and M at least 2.

    |mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))   (Dowson & Landau 1982)

    It is FID only on features of an Inception network. It is biased: between draws of one distribution its expected
    value is a multiple of 1/N + 1/M.
    """
    a, b = both_as_rows(real, generated, 2)
    return gaussian_frechet(fit_gaussian(a), fit_gaussian(b))


def fit_gaussian(rows: np.ndarray) -> Gaussian:
    """The Gaussian with the mean and the unbiased covariance of (N, F) rows."""
    count, width = rows.shape
    mean = rows.mean(0)
    centred = (rows - mean) / np.sqrt(count - 1)
    # With fewer samples than values, the samples themselves are the smaller factor, and exact.
    factor = centred.T if count <= width else covariance_factor(centred.T @ centred)
    return Gaussian(mean, factor, float((centred**2).sum()))


def covariance_factor(covariance: np.ndarray) -> np.ndarray:
    """(F, r) factor of a covariance (F, F) of rank r."""
    value, vector = np.linalg.eigh(covariance)
    positive = value > value[-1] * len(value) * np.finfo(float).eps
    return vector[:, positive] * np.sqrt(value[positive])


def gaussian_frechet(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet distance between two Gaussians."""
    # tr (cov_a cov_b)^(1/2) is the sum of the singular values of factor_a^T factor_b: no complex square root.
    overlap = np.linalg.svd(a.factor.T @ b.factor, compute_uv=False).sum()
    shift = a.mean - b.mean
    return float(shift @ shift + a.trace + b.trace - 2 * overlap)


def kernel(real: np.ndarray, generated: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the cubic kernel k(x, y) = (x . y / F + 1)^3 of rows of F values.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over pairs of different samples   (Gretton et al. 2012, lemma 6)

    It is not KID, which uses features of an Inception network and a mean over small subsets (Binkowski et al. 2018).
    """
    a, b = both_as_rows(real, generated, 2)
    within = [(sum(block.sum() for _, block in kernel_blocks(rows, rows)) - kernel_diagonal(rows).sum())
              / (len(rows) * (len(rows) - 1)) for rows in (a, b)]
    between = sum(block.sum() for _, block in kernel_blocks(a, b)) / (len(a) * len(b))
    return float(within[0] + within[1] - 2 * between)


def kernel_blocks(rows: np.ndarray, others: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """The cubic kernel of rows (n, F) with others (m, F), block by block."""
    for part in _blocks(len(rows), len(others)):
        product = rows[part] @ others.T
        product /= rows.shape[1]
        product += 1
        yield part, product * product * product


def kernel_diagonal(rows: np.ndarray) -> np.ndarray:
    """(n,) cubic kernel of each row with itself."""
    return ((rows * rows).sum(1) / rows.shape[1] + 1) ** 3


def neighbours(real: np.ndarray, generated: np.ndarray, k: int = 5) -> Neighbours:
    """Precision, recall, density and coverage of (M, ...) generated samples among (N, ...) real ones, both more than k.

    The ball around each sample reaches to its k-th nearest other sample of the same set (Kynkäänniemi et al. 2019,
    eq. 2; Naeem et al. 2020, eq. 3 and 5). All four depend on the numbers of samples: compare only equal numbers.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    a, b = both_as_rows(real, generated, k + 1)
    real_reach, generated_reach = (_reach(rows, k) for rows in (a, b))
    balls, recalled, covered = np.zeros(len(b)), np.zeros(len(a), bool), np.zeros(len(a), bool)
    for part, gap in distance_blocks(a, b):
        inside = gap < real_reach[part, None]
        balls += inside.sum(0)
        covered[part] = inside.any(1)
        recalled[part] = (gap < generated_reach).any(1)
    return Neighbours(float((balls > 0).mean()), float(recalled.mean()), float(balls.mean() / k), float(covered.mean()))


def distance_blocks(rows: np.ndarray, others: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared Euclidean distances of rows (n, F) from others (m, F), block by block."""
    # Not centred first, so that whole numbers such as 8-bit pictures give exact distances and exact ties.
    length = (others * others).sum(1)
    for part in _blocks(len(rows), len(others)):
        gap = rows[part] @ others.T
        gap *= -2
        gap += (rows[part] * rows[part]).sum(1)[:, None]
        gap += length
        yield part, np.maximum(gap, 0, out=gap)


def _reach(rows: np.ndarray, k: int) -> np.ndarray:
    """(n,) squared distance of each row to its k-th nearest other row."""
    reach = np.empty(len(rows))
    for part, gap in distance_blocks(rows, rows):
        index = np.arange(len(gap))
        gap[index, index + part.start] = np.inf
        reach[part] = np.partition(gap, k - 1, axis=1)[:, k - 1]
    return reach


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of rows whose blocks of a matrix with `width` columns have a bounded size."""
    step = max(1, ENTRIES // width)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def nearest(samples: np.ndarray, references: np.ndarray) -> np.ndarray:
    """(N,) Euclidean distance from each of (N, ...) samples to the nearest of (M, ...) references."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1).fit(as_rows("references", references, 1))
    return index.kneighbors(as_rows("samples", samples, 1))[0][:, 0]
