"""Distances with 95 % intervals, by deleting groups of samples in turn, and as many as are needed to cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from ornstein.evaluation import distances
from ornstein.evaluation.distances import Gaussian, Neighbours, apart, both_as_rows, fitted, kernels, on_itself
from ornstein.evaluation.results import LEVEL, NORMAL, Interval

__all__ = ["NeighbourIntervals", "frechet_interval", "kernel_interval", "neighbour_intervals", "pooled_interval",
           "pooled_share_interval", "share_interval"]

GROUPS = 32  # more of them change no interval by more than a few per cent
WIDE_GROUPS = 10  # where one distance costs seconds
WIDE = 512  # values a sample from which it does
SPLITS, WIDE_SPLITS = 16, 4  # into halves: their number divides a variance that the interval counts in
PART, DRAWS = 3, 64  # subsamples of a third: smaller ones are too unlike the whole, larger ones too like one another
TRUSTED = 1.5  # standard errors, the largest second-order term beside which those of third order are small: measured
ROUNDING = 1e-7  # of a distance, by differences of nearly equal sums
LEAST = 4  # groups, below which Student's quantile is more than 1.6 times the normal one


class NeighbourIntervals(NamedTuple):
    """`distances.Neighbours` with an interval each."""

    precision: Interval
    recall: Interval
    density: Interval
    coverage: Interval


def frechet_interval(real: np.ndarray, generated: np.ndarray, *, groups: int | None = None,
                     seed: int = 0) -> Interval:
    """Fréchet distance of (N, ...) and (M, ...) samples without its bias, and the 95 % interval of that between the two
    laws.

    The bias is a series in 1 / N and 1 / M. The jackknife that deletes one of g groups of either set in turn gives J =
    D - (g - 1) sum over both sets of (mean D without a group - D), free of first-order terms (Quenouille 1956); random
    halves of both sets, with mean distance H, remove the second-order ones: limit = 2 J + H - 2 D. The interval solves
    |limit - theta| <= t (variance at theta)^(1/2) for theta, as Wilson's does for a share. Near zero the distance is a
    square, so its variance is L (theta + bias / 2) with L = (jackknife variance of D) / D: exact for the square of a
    Gaussian mean, where a plain jackknife interval covers zero nearly always.

    Where the series is not to be trusted there is no limit, and the interval is that of the expected value at these
    numbers of samples: second-order terms larger than 1.5 standard errors, or fewer samples than 2 (tr cov^(1/2))^2 /
    tr cov, which is 2 F for white values and far less for those of pictures.

    There are 32 groups, 10 from 512 values on, or as many as the sets allow; the seed says which sample is in which.
    """
    if groups is not None and groups < LEAST:
        raise ValueError(f"groups is {groups}; it must be at least {LEAST}")
    a, b = both_as_rows(real, generated, 2 * (groups or LEAST))
    if groups is None:
        groups = min(WIDE_GROUPS if a.shape[1] >= WIDE else GROUPS, len(a) // 2, len(b) // 2)
    centre = a.mean(0)  # so that sums over groups may be subtracted without loss
    a, b = a - centre, b - centre
    law_a, law_b = fitted(a), fitted(b)
    value = apart(law_a, law_b)
    draw = np.random.default_rng(seed)
    without = (np.array([apart(law, law_b) for law in _fitted_without(a, _label(len(a), groups, draw))]),
               np.array([apart(law_a, law) for law in _fitted_without(b, _label(len(b), groups, draw))]))
    variance, quantile = _jackknife(*without)
    reach = quantile * np.sqrt(variance)
    expected = Interval(value, None, max(float(value - reach), 0.0), float(value + reach))
    if any(len(rows) < 2 * _filled(law) for rows, law in ((a, law_a), (b, law_b))):
        return expected
    first = value - sum((groups - 1) * (float(some.mean()) - value) for some in without)
    halves = np.empty(WIDE_SPLITS if a.shape[1] >= WIDE else SPLITS)
    for split in range(len(halves)):
        of_a, of_b = _label(len(a), 2, draw), _label(len(b), 2, draw)
        halves[split] = sum(apart(fitted(a[of_a == half]), fitted(b[of_b == half])) for half in range(2)) / 2
    second = first + float(halves.mean()) - 2 * value
    noise = float(halves.var(ddof=1)) / len(halves)  # of the mean over splits, which are a few of very many
    if abs(second) > TRUSTED * np.sqrt(variance) + 2 * np.sqrt(noise) + ROUNDING * value:
        return expected
    limit = first + second
    return Interval(value, max(limit, 0.0), *_solved(limit, value, variance, quantile, noise))


def kernel_interval(real: np.ndarray, generated: np.ndarray) -> Interval:
    """Unbiased kernel distance of (N, ...) and (M, ...) samples, N and M at least 4, and the 95 % interval of the
    distance between the two laws.

    It deletes one sample at a time, which costs nothing once the sums of the kernel's rows are known; the interval is
    solved for as in `frechet_interval`, with the biased estimate (V-statistic, Gretton et al. 2012, eq. 5) for D. The
    value may be below 0, the ends are not.
    """
    a, b = both_as_rows(real, generated, 4)
    n, m = len(a), len(b)
    within = [np.concatenate([block.sum(1) for _, block in kernels(rows, rows)]) - on_itself(rows) for rows in (a, b)]
    across_a, across_b = np.empty(n), np.zeros(m)
    for part, block in kernels(a, b):
        across_a[part] = block.sum(1)
        across_b += block.sum(0)
    inside, across = (within[0].sum(), within[1].sum()), across_a.sum()

    def distance(real_pairs: np.ndarray, generated_pairs: np.ndarray, sums: np.ndarray, n: int, m: int) -> np.ndarray:
        return real_pairs / (n * (n - 1)) + generated_pairs / (m * (m - 1)) - 2 * sums / (n * m)

    value = float(distance(*inside, across, n, m))
    variance, quantile = _jackknife(distance(inside[0] - 2 * within[0], inside[1], across - across_a, n - 1, m),
                                    distance(inside[0], inside[1] - 2 * within[1], across - across_b, n, m - 1))
    biased = (inside[0] + on_itself(a).sum()) / n**2 + (inside[1] + on_itself(b).sum()) / m**2 - 2 * across / (n * m)
    return Interval(value, value, *_solved(value, float(biased), variance, quantile))


def neighbour_intervals(real: np.ndarray, generated: np.ndarray, k: int = 5, *, seed: int = 0,
                        tell: Callable[[float], None] | None = None) -> NeighbourIntervals:
    """Precision, recall, density and coverage, each with the 95 % interval of its expected value at these numbers.

    The variance is that between random thirds of both sets, times 1/3 / (1 - 1/3) (subsampling, Politis & Romano 1994):
    a jackknife counts what neighbours have in common several times and covers nearly always. Shares at a third of the
    samples differ, so their variance is kept as a multiple of the binomial one, with which Wilson's interval is formed:
    it stays in [0, 1] and is no point at its ends.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    a, b = both_as_rows(real, generated, PART * (k + 1))
    draw = np.random.default_rng(seed)
    all_of = distances.neighbours(a, b, k)
    some = np.empty((DRAWS, len(all_of)))
    for number in range(DRAWS):
        third, other = (draw.permutation(rows)[:len(rows) // PART] for rows in (a, b))
        some[number] = distances.neighbours(third, other, k)
        if tell:
            tell((number + 1) / DRAWS)
    variance, mean = some.var(0, ddof=1) / (PART - 1), some.mean(0)
    intervals = {}
    for name, value, spread, middle, count in zip(Neighbours._fields, all_of, variance, mean,
                                                  (len(b), len(a), len(b), len(a)), strict=True):
        if name == "density":
            reach = NORMAL * np.sqrt(spread) * (value / middle if middle > 0 else 1)
            intervals[name] = Interval(value, None, float(max(value - reach, 0)), float(value + reach))
            continue
        # Where all thirds score 0, or all 1, the samples count as independent.
        independent = middle * (1 - middle) / spread if spread > 0 else count
        intervals[name] = share_interval(value, min(independent, count))
    return NeighbourIntervals(**intervals)


def share_interval(share: float, count: float, quantile: float = NORMAL) -> Interval:
    """Interval of a share of so many independent samples, by solving |share - p| <= q (p (1 - p) / count)^(1/2) for p
    (Wilson 1927)."""
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be from 0 to 1")
    if not count > 0:
        raise ValueError(f"count is {count}; it must be above 0")
    weight = quantile**2 / count
    middle = (share + weight / 2) / (1 + weight)
    reach = np.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    # At 0 and 1 the end is the share itself, which rounding would miss.
    return Interval(float(share), None, float(max(0.0, min(share, middle - reach))),
                    float(min(1.0, max(share, middle + reach))))


def pooled_interval(sums: np.ndarray, counts: np.ndarray) -> Interval:
    """Mean of values that lie in independent rows and are correlated within each, from (N,) sums and counts of a row,
    by deleting one row in turn."""
    value, variance, quantile = _pooled(sums, counts)
    reach = quantile * math.sqrt(variance)
    return Interval(value, None, value - reach, value + reach)


def pooled_share_interval(sums: np.ndarray, counts: np.ndarray) -> Interval:
    """The same of a share: Wilson's interval, of as many independent values as a share of that variance would have."""
    value, variance, quantile = _pooled(sums, counts)
    independent = value * (1 - value) / variance if variance > 0 else len(sums)
    return share_interval(value, min(independent, float(np.sum(counts))), quantile)


def _pooled(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    total, count = sums.sum(), counts.sum()
    return float(total / count), *_jackknife((total - sums) / (count - counts))


def _label(count: int, groups: int, draw: np.random.Generator) -> np.ndarray:
    """(count,) which group each sample is in: at random, since samples are often ordered by class."""
    return draw.permutation(count) % groups


def _fitted_without(rows: np.ndarray, label: np.ndarray) -> Iterator[Gaussian]:
    """The Gaussian fitted without each group, from sums over all less those over the group."""
    count, width = rows.shape
    if count <= width + 1:
        yield from (fitted(rows[label != group]) for group in range(label.max() + 1))
        return
    total, square = rows.sum(0), rows.T @ rows
    for group in range(label.max() + 1):
        some = rows[label == group]
        left = count - len(some)
        mean = (total - some.sum(0)) / left
        covariance = (square - some.T @ some - left * np.outer(mean, mean)) / (left - 1)
        yield Gaussian(mean, distances.root(covariance), float(np.trace(covariance)))


def _filled(law: Gaussian) -> float:
    """How many values would be as hard to learn the spread of, were they all alike: (tr cov^(1/2))^2 / tr cov."""
    if not law.trace > 0:
        return 0.0
    return float(np.linalg.svd(law.factor, compute_uv=False).sum() ** 2 / law.trace)


def _jackknife(*sets: np.ndarray) -> tuple[float, float]:
    """Variance from the figures without each group, summed over the sets, and Student's quantile for it."""
    parts = np.array([(len(some) - 1) * some.var() for some in map(np.asarray, sets)])
    total = parts.sum()
    if not total > 0:
        return 0.0, NORMAL
    # Degrees of freedom of a sum of variances (Satterthwaite 1946).
    freedom = total**2 / sum(part**2 / (len(some) - 1) for part, some in zip(parts, sets, strict=True))
    return float(total), float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def _solved(estimate: float, biased: float, variance: float, quantile: float, extra: float = 0) -> tuple[float, float]:
    """The distances that are within the quantile of their own standard errors from the estimate."""
    slope = variance / biased if biased > 0 else 0.0
    fixed = slope * max(biased - estimate, 0.0) / 2 + extra
    estimate = max(estimate, 0.0)  # no distance is below zero, so an estimate there says no more than zero does
    half = quantile**2 * slope / 2
    reach = np.sqrt(quantile**2 * (fixed + slope * estimate) + half**2)
    return max(float(estimate + half - reach), 0.0), float(estimate + half + reach)
