"""Whether a classifier can tell generated samples from real ones, and how sure one may be of its score."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from ornstein.evaluation.distances import both_as_rows
from ornstein.evaluation.intervals import share_interval
from ornstein.evaluation.results import Interval

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

__all__ = ["FOLDS", "TREES", "accuracy_interval", "real_or_generated", "told_apart", "tree", "workers"]

TREES, FOLDS = 200, 5
ALONE = 500  # rows, up to which threads cost more than they save


def real_or_generated(real: np.ndarray, generated: np.ndarray, *, trees: int = TREES, folds: int = FOLDS,
                      seed: int = 0) -> float:
    """Area under the curve of a random forest that tells real from generated (classifier two-sample test).

    Out-of-fold votes (Lopez-Paz & Oquab 2017, with a forest): 0.5 is indistinguishable, 1 is told apart always.
    """
    return float(_placements(*_votes(real, generated, trees, folds, seed))[0].mean())


def told_apart(real: np.ndarray, generated: np.ndarray, *, trees: int = TREES, folds: int = FOLDS,
               seed: int = 0, tell: Callable[[float], None] | None = None) -> Interval:
    """`real_or_generated` with the 95 % interval of its expected value at these numbers of samples.

    The variance of DeLong et al. (1988), eq. 5 takes votes for independent. Those of a cross-validation are not: a
    sample moves the forests of the other folds as well, the more the less sure they are. Over repetitions the variance
    is 1.7 to 1.9 times theirs at areas of 0.5 to 0.6, 1.5 at 0.7 and 1.1 at 0.97 (benchmarks/coverage.py), so it is
    taken 1 + 4 A (1 - A) times. The interval is Wilson's, with as many samples as would give that variance.
    """
    of_real, of_generated = _placements(*_votes(real, generated, trees, folds, seed, tell))
    area = float(of_real.mean())
    independent = of_real.var(ddof=1) / len(of_real) + of_generated.var(ddof=1) / len(of_generated)
    variance = (1 + 4 * area * (1 - area)) * independent
    # Where every vote is right no variance is left to see; a sample of the smaller set might have been voted wrong.
    count = area * (1 - area) / variance if variance > 0 else min(len(of_real), len(of_generated))
    return share_interval(area, count)


def accuracy_interval(hits: int, count: int) -> Interval:
    """Share of hits among independent trials with its 95 % interval (Wilson 1927)."""
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    if not 0 <= hits <= count:
        raise ValueError(f"hits is {hits}; it must be from 0 to count, which is {count}")
    return share_interval(hits / count, count)


def _votes(real: np.ndarray, generated: np.ndarray, trees: int, folds: int, seed: int,
           tell: Callable[[float], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (M,) shares of the trees that vote for "generated", by forests that have not seen the sample."""
    from sklearn.model_selection import StratifiedKFold

    if trees < 1:
        raise ValueError(f"trees is {trees}; it must be at least 1")
    if folds < 2:
        raise ValueError(f"folds is {folds}; it must be at least 2")
    # A tree looks at one value of many rows at a time: columns that lie together are read a tenth faster.
    rows = np.asfortranarray(np.concatenate(both_as_rows(real, generated, folds)), np.float32)
    label = np.repeat([0, 1], [len(real), len(generated)])
    vote = np.empty(len(rows))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(rows, label)
    for number, (known, asked) in enumerate(splits):
        fitted = _forest(len(rows), trees, seed).fit(np.asfortranarray(rows[known]), label[known])
        fitted.set_params(n_jobs=1)  # threads add votes up in any order, and ties are broken by the rounding then
        vote[asked] = fitted.predict_proba(np.ascontiguousarray(rows[asked]))[:, 1]
        if tell:
            tell((number + 1) / folds)
    return vote[:len(real)], vote[len(real):]


def tree(real: np.ndarray, generated: np.ndarray) -> None:
    """Grow one of the trees of `told_apart`, to see what it costs."""
    rows = np.asfortranarray(np.concatenate([real, generated]), np.float32)
    _forest(0, 1, 0).fit(rows, np.repeat([0, 1], [len(real), len(generated)]))


def workers(rows: int) -> int:
    """How many trees are grown at a time."""
    return (os.cpu_count() or 1) if rows > ALONE else 1


def _forest(rows: int, trees: int, seed: int) -> RandomForestClassifier:
    from sklearn.ensemble import RandomForestClassifier

    # The trees are the same by any number of threads.
    return RandomForestClassifier(trees, random_state=seed % 2**32, n_jobs=workers(rows))


def _placements(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) share of the generated that outvote each real sample, (M,) share of the real that each generated outvotes.

    A tie counts a half; the mean of either is the area under the curve (DeLong et al. 1988, eq. 2 to 4).
    """
    rank = stats.rankdata(np.concatenate([real, generated]))
    above = (rank[len(real):] - stats.rankdata(generated)) / len(real)
    below = 1 - (rank[:len(real)] - stats.rankdata(real)) / len(generated)
    return below, above
