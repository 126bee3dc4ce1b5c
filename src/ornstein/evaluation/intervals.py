"""Distances with 95 % intervals that cover, from jackknifes and subsampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from ornstein.evaluation import distances
from ornstein.evaluation.distances import (
    Gaussian,
    Neighbours,
    both_as_rows,
    fit_gaussian,
    gaussian_frechet,
    kernel_blocks,
    kernel_diagonal,
)
from ornstein.evaluation.results import LEVEL, NORMAL, Interval

__all__ = ["NeighbourIntervals", "frechet_interval", "kernel_interval", "neighbour_intervals", "pooled_interval",
           "pooled_share_interval", "share_interval"]

GROUPS = 32  # more change no interval by more than a few per cent
WIDE_GROUPS = 10  # where one distance takes seconds
WIDE = 512  # values a sample from which on it does
SPLITS, WIDE_SPLITS = 16, 4  # into halves; the interval includes the variance of their mean
PART, DRAWS = 3, 64  # subsamples of a third: smaller ones differ too much from all samples, larger ones too little
TRUSTED = 1.5  # standard errors: the largest second-order term for which third-order terms are small (measured)
ROUNDING = 1e-7  # relative error of a distance from cancellation
MIN_GROUPS = 4  # with fewer, Student's quantile is more than 1.6 times the normal one


class NeighbourIntervals(NamedTuple):
    """`distances.Neighbours` with intervals."""

    precision: Interval
    recall: Interval
    density: Interval
    coverage: Interval


def frechet_interval(real: np.ndarray, generated: np.ndarray, *, groups: int | None = None,
                     seed: int = 0) -> Interval:
    """Fréchet distance of (N, ...) and (M, ...) samples without its bias, and the 95 % interval of the distance between
    the two distributions.

    The bias is a series in 1 / N and 1 / M. The jackknife that deletes one of g groups of either set in turn gives J =
    D - (g - 1) sum over both sets of (mean D without a group - D), free of first-order terms (Quenouille 1956); random
    halves of both sets, with mean distance H, remove the second-order ones: limit = 2 J + H - 2 D. The interval solves
    |limit - theta| <= t (variance at theta)^(1/2) for theta, as Wilson's does for a share. Near zero the distance is a
    square, so its variance is L (theta + bias / 2) with L = (jackknife variance of D) / D: exact for the square of a
    Gaussian mean, where a plain jackknife interval nearly always covers zero.

    Where the series cannot be trusted there is no limit, and the interval is that of the expected value at these
    numbers of samples: if second-order terms exceed 1.5 standard errors, or with fewer samples than 2 (tr cov^(1/2))^2
    / tr cov, which is 2 F for white values and far less for those of pictures.

    There are 32 groups, 10 from 512 values on, or as many as the sets allow; the seed assigns the samples to them.
    """
    if groups is not None and groups < MIN_GROUPS:
        raise ValueError(f"groups is {groups}; it must be at least {MIN_GROUPS}")
    a, b = both_as_rows(real, generated, 2 * (groups or MIN_GROUPS))
    if groups is None:
        groups = min(WIDE_GROUPS if a.shape[1] >= WIDE else GROUPS, len(a) // 2, len(b) // 2)
    centre = a.mean(0)  # so that sums over groups can be subtracted without cancellation
    a, b = a - centre, b - centre
    gaussian_a, gaussian_b = fit_gaussian(a), fit_gaussian(b)
    value = gaussian_frechet(gaussian_a, gaussian_b)
    rng = np.random.default_rng(seed)
    without = (np.array([gaussian_frechet(part, gaussian_b)
                         for part in _fit_without(a, _assign_groups(len(a), groups, rng))]),
               np.array([gaussian_frechet(gaussian_a, part)
                         for part in _fit_without(b, _assign_groups(len(b), groups, rng))]))
    variance, quantile = _jackknife(*without)
    half_width = quantile * np.sqrt(variance)
    expected = Interval(value, None, max(float(value - half_width), 0.0), float(value + half_width))
    if any(len(rows) < 2 * _effective_width(law) for rows, law in ((a, gaussian_a), (b, gaussian_b))):
        return expected
    first = value - sum((groups - 1) * (float(part.mean()) - value) for part in without)
    halves = np.empty(WIDE_SPLITS if a.shape[1] >= WIDE else SPLITS)
    for split in range(len(halves)):
        half_a, half_b = _assign_groups(len(a), 2, rng), _assign_groups(len(b), 2, rng)
        halves[split] = sum(gaussian_frechet(fit_gaussian(a[half_a == half]), fit_gaussian(b[half_b == half]))
                            for half in range(2)) / 2
    second = first + float(halves.mean()) - 2 * value
    noise = float(halves.var(ddof=1)) / len(halves)  # variance of the mean over a few of all possible splits
    if abs(second) > TRUSTED * np.sqrt(variance) + 2 * np.sqrt(noise) + ROUNDING * value:
        return expected
    limit = first + second
    return Interval(value, max(limit, 0.0), *_solved(limit, value, variance, quantile, noise))


def kernel_interval(real: np.ndarray, generated: np.ndarray) -> Interval:
    """Unbiased kernel distance of (N, ...) and (M, ...) samples, N and M at least 4, and the 95 % interval of the
    distance between the two distributions.

    The jackknife deletes one sample at a time, which is cheap once the sums of the kernel's rows are known; the
    interval is solved for as in `frechet_interval`, with the biased estimate (V-statistic, Gretton et al. 2012, eq. 5)
    for D. The value may be below 0, the ends may not.
    """
    a, b = both_as_rows(real, generated, 4)
    n, m = len(a), len(b)
    within = [np.concatenate([block.sum(1) for _, block in kernel_blocks(rows, rows)]) - kernel_diagonal(rows)
              for rows in (a, b)]
    across_a, across_b = np.empty(n), np.zeros(m)
    for part, block in kernel_blocks(a, b):
        across_a[part] = block.sum(1)
        across_b += block.sum(0)
    inside, across = (within[0].sum(), within[1].sum()), across_a.sum()

    def distance(real_pairs: np.ndarray, generated_pairs: np.ndarray, sums: np.ndarray, n: int, m: int) -> np.ndarray:
        return real_pairs / (n * (n - 1)) + generated_pairs / (m * (m - 1)) - 2 * sums / (n * m)

    value = float(distance(*inside, across, n, m))
    variance, quantile = _jackknife(distance(inside[0] - 2 * within[0], inside[1], across - across_a, n - 1, m),
                                    distance(inside[0], inside[1] - 2 * within[1], across - across_b, n, m - 1))
    biased = ((inside[0] + kernel_diagonal(a).sum()) / n**2 + (inside[1] + kernel_diagonal(b).sum()) / m**2
              - 2 * across / (n * m))
    return Interval(value, value, *_solved(value, float(biased), variance, quantile))


def neighbour_intervals(real: np.ndarray, generated: np.ndarray, k: int = 5, *, seed: int = 0,
                        progress: Callable[[float], None] | None = None) -> NeighbourIntervals:
    """Precision, recall, density and coverage, each with the 95 % interval of its expected value at these numbers.

    The variance is that between random thirds of both sets, times 1/3 / (1 - 1/3) (subsampling, Politis & Romano 1994):
    a jackknife counts what neighbours share several times, and its intervals nearly always cover. Since shares of a
    third of the samples have other means, their variance is taken relative to the binomial one to form Wilson's
    interval, which stays in [0, 1] and does not collapse to a point at its ends.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    a, b = both_as_rows(real, generated, PART * (k + 1))
    rng = np.random.default_rng(seed)
    values = distances.neighbours(a, b, k)
    thirds = np.empty((DRAWS, len(values)))
    for draw in range(DRAWS):
        third_a, third_b = (rng.permutation(rows)[:len(rows) // PART] for rows in (a, b))
        thirds[draw] = distances.neighbours(third_a, third_b, k)
        if progress:
            progress((draw + 1) / DRAWS)
    intervals = {}
    for name, value, variance, mean, count in zip(
            Neighbours._fields, values, thirds.var(0, ddof=1) / (PART - 1), thirds.mean(0),
            (len(b), len(a), len(b), len(a)), strict=True):
        if name == "density":
            half_width = NORMAL * np.sqrt(variance) * (value / mean if mean > 0 else 1)
            intervals[name] = Interval(value, None, float(max(value - half_width, 0)), float(value + half_width))
            continue
        # Where all thirds score 0, or all 1, the samples count as independent.
        independent = mean * (1 - mean) / variance if variance > 0 else count
        intervals[name] = share_interval(value, min(independent, count))
    return NeighbourIntervals(**intervals)


def share_interval(share: float, count: float, quantile: float = NORMAL) -> Interval:
    """Interval of a share of `count` independent samples, by solving |share - p| <= q (p (1 - p) / count)^(1/2) for p
    (Wilson 1927)."""
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be from 0 to 1")
    if not count > 0:
        raise ValueError(f"count is {count}; it must be above 0")
    weight = quantile**2 / count
    centre = (share + weight / 2) / (1 + weight)
    half_width = np.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    # At 0 and 1 one end is the share itself, up to rounding.
    return Interval(float(share), None, float(max(0.0, min(share, centre - half_width))),
                    float(min(1.0, max(share, centre + half_width))))


def pooled_interval(sums: np.ndarray, counts: np.ndarray) -> Interval:
    """Interval of the mean of values in independent rows, correlated within each row, from (N,) sums and counts of the
    rows, by deleting one row in turn."""
    value, variance, quantile = _pooled(sums, counts)
    half_width = quantile * math.sqrt(variance)
    return Interval(value, None, value - half_width, value + half_width)


def pooled_share_interval(sums: np.ndarray, counts: np.ndarray) -> Interval:
    """The same for a share: Wilson's interval, for the number of independent values that gives the same variance."""
    value, variance, quantile = _pooled(sums, counts)
    independent = value * (1 - value) / variance if variance > 0 else len(sums)
    return share_interval(value, min(independent, float(np.sum(counts))), quantile)


def _pooled(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    total, count = sums.sum(), counts.sum()
    return float(total / count), *_jackknife((total - sums) / (count - counts))


def _assign_groups(count: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) group of each sample, at random, since samples are often ordered by class."""
    return rng.permutation(count) % groups


def _fit_without(rows: np.ndarray, group_of: np.ndarray) -> Iterator[Gaussian]:
    """The Gaussian fitted without each group in turn, from the sums over all rows minus those over the group."""
    count, width = rows.shape
    if count <= width + 1:
        yield from (fit_gaussian(rows[group_of != group]) for group in range(group_of.max() + 1))
        return
    total, square = rows.sum(0), rows.T @ rows
    for group in range(group_of.max() + 1):
        deleted = rows[group_of == group]
        left = count - len(deleted)
        mean = (total - deleted.sum(0)) / left
        covariance = (square - deleted.T @ deleted - left * np.outer(mean, mean)) / (left - 1)
        yield Gaussian(mean, distances.covariance_factor(covariance), float(np.trace(covariance)))


def _effective_width(gaussian: Gaussian) -> float:
    """The number of equally varying values whose covariance is as hard to estimate: (tr cov^(1/2))^2 / tr cov."""
    if not gaussian.trace > 0:
        return 0.0
    return float(np.linalg.svd(gaussian.factor, compute_uv=False).sum() ** 2 / gaussian.trace)


def _jackknife(*sets: np.ndarray) -> tuple[float, float]:
    """Jackknife variance from the figures without each group, summed over the sets, and Student's quantile for it."""
    parts = np.array([(len(figures) - 1) * figures.var() for figures in map(np.asarray, sets)])
    total = parts.sum()
    if not total > 0:
        return 0.0, NORMAL
    # Degrees of freedom of a sum of variances (Satterthwaite 1946).
    freedom = total**2 / sum(part**2 / (len(figures) - 1) for part, figures in zip(parts, sets, strict=True))
    return float(total), float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def _solved(estimate: float, biased: float, variance: float, quantile: float, extra: float = 0) -> tuple[float, float]:
    """Ends of the interval of distances within `quantile` of their own standard errors from the estimate."""
    slope = variance / biased if biased > 0 else 0.0
    fixed = slope * max(biased - estimate, 0.0) / 2 + extra
    estimate = max(estimate, 0.0)  # a distance is never negative
    half = quantile**2 * slope / 2
    half_width = np.sqrt(quantile**2 * (fixed + slope * estimate) + half**2)
    return max(float(estimate + half - half_width), 0.0), float(estimate + half + half_width)
