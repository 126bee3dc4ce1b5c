"""Whether a classifier can tell generated samples from real ones, with the uncertainty of its score."""

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

__all__ = ["FOLDS", "TREES", "accuracy_interval", "forest_auc", "forest_auc_interval", "grow_tree", "tree_workers"]

TREES, FOLDS = 200, 5
ALONE = 500  # rows up to which threads cost more than they save


def forest_auc(real: np.ndarray, generated: np.ndarray, *, trees: int = TREES, folds: int = FOLDS,
               seed: int = 0) -> float:
    """Area under the curve of a random forest that tells real from generated (classifier two-sample test).

    From out-of-fold votes (Lopez-Paz & Oquab 2017, with a forest): 0.5 is indistinguishable, 1 is never wrong.
    """
    return float(_placements(*_votes(real, generated, trees, folds, seed))[0].mean())


def forest_auc_interval(real: np.ndarray, generated: np.ndarray, *, trees: int = TREES, folds: int = FOLDS,
                        seed: int = 0, progress: Callable[[float], None] | None = None) -> Interval:
    """`forest_auc` with the 95 % interval of its expected value at these numbers of samples.

    The variance of DeLong et al. (1988), eq. 5 assumes independent votes. Those of a cross-validation are not: a sample
    also changes the forests of the other folds, the more so the less certain they are. Over repetitions the variance
    is 1.7 to 1.9 times theirs at areas of 0.5 to 0.6, 1.5 at 0.7 and 1.1 at 0.97 (benchmarks/coverage.py), so it is
    multiplied by 1 + 4 A (1 - A). The interval is Wilson's, for the number of samples that gives that variance.
    """
    of_real, of_generated = _placements(*_votes(real, generated, trees, folds, seed, progress))
    area = float(of_real.mean())
    independent = of_real.var(ddof=1) / len(of_real) + of_generated.var(ddof=1) / len(of_generated)
    variance = (1 + 4 * area * (1 - area)) * independent
    # Without a wrong vote the variance is 0; one sample of the smaller set might still have been voted wrong.
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
           progress: Callable[[float], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (M,) shares of trees that vote "generated", from forests that have not seen the sample."""
    from sklearn.model_selection import StratifiedKFold

    if trees < 1:
        raise ValueError(f"trees is {trees}; it must be at least 1")
    if folds < 2:
        raise ValueError(f"folds is {folds}; it must be at least 2")
    # A tree reads one value of many rows at a time, which is a tenth faster in column order.
    rows = np.asfortranarray(np.concatenate(both_as_rows(real, generated, folds)), np.float32)
    label = np.repeat([0, 1], [len(real), len(generated)])
    vote = np.empty(len(rows))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(rows, label)
    for fold, (train, test) in enumerate(splits):
        forest = _forest(len(rows), trees, seed).fit(np.asfortranarray(rows[train]), label[train])
        forest.set_params(n_jobs=1)  # threads sum votes in any order, and the rounding would then break ties
        vote[test] = forest.predict_proba(np.ascontiguousarray(rows[test]))[:, 1]
        if progress:
            progress((fold + 1) / folds)
    return vote[:len(real)], vote[len(real):]


def grow_tree(real: np.ndarray, generated: np.ndarray) -> None:
    """Grow a single tree, to time it."""
    rows = np.asfortranarray(np.concatenate([real, generated]), np.float32)
    _forest(0, 1, 0).fit(rows, np.repeat([0, 1], [len(real), len(generated)]))


def tree_workers(rows: int) -> int:
    """How many trees are grown in parallel."""
    return (os.cpu_count() or 1) if rows > ALONE else 1


def _forest(rows: int, trees: int, seed: int) -> RandomForestClassifier:
    from sklearn.ensemble import RandomForestClassifier

    # The trees do not depend on the number of threads.
    return RandomForestClassifier(trees, random_state=seed % 2**32, n_jobs=tree_workers(rows))


def _placements(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) share of generated samples above each real one, (M,) share of real samples below each generated one.

    A tie counts one half; the mean of either is the area under the curve (DeLong et al. 1988, eq. 2 to 4).
    """
    rank = stats.rankdata(np.concatenate([real, generated]))
    above = (rank[len(real):] - stats.rankdata(generated)) / len(real)
    below = 1 - (rank[:len(real)] - stats.rankdata(real)) / len(generated)
    return below, above
