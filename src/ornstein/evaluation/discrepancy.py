"""One number for how far samples are from data, from two judges that are fooled by different flaws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ornstein.evaluation.classifier import forest_auc
from ornstein.evaluation.distances import frechet

__all__ = ["MIN_ROWS", "discrepancy"]

MIN_ROWS = 100  # of the data; with fewer, neither judge can say much
TREES, FOLDS = 100, 3  # of the forest


def discrepancy(real: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return a function of samples (M, F): their Fréchet distance to data (N, F), relative to that between two halves
    of the data, plus twice the area under the curve of a forest that tells them from the data.

    Slightly blurred samples may have the right mean and covariance, which does not fool the forest; and once the forest
    recognises every sample, it no longer says how far off they are.

    Raises:
        ValueError: fewer than 100 rows of data.
    """
    if len(real) < MIN_ROWS:
        raise ValueError(f"real holds {len(real)} samples; at least {MIN_ROWS} are needed")
    half, other = np.array_split(np.random.default_rng(0).permutation(len(real)), 2)
    floor = frechet(real[half], real[other])

    def score(samples: np.ndarray) -> float:
        same_count = samples[:len(real)]
        auc = forest_auc(real[:len(same_count)], same_count, trees=TREES, folds=FOLDS)
        return frechet(real, samples) / floor + 2 * auc

    return score
