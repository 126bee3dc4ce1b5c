"""One figure for how near samples are to data, by two judges that are fooled by different things."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ornstein.evaluation.classifier import real_or_generated
from ornstein.evaluation.distances import frechet

__all__ = ["LEAST_ROWS", "nearness"]

LEAST_ROWS = 100  # of the data, below which neither judge can say much
TREES, FOLDS = 100, 3  # of the forest


def nearness(real: np.ndarray) -> Callable[[np.ndarray], float]:
    """A function of samples (M, F): their Fréchet distance to data (N, F), over that of two halves of the data, and
    twice the area under the curve of a forest that tells them from the data.

    Samples that are all a little blurred may have the right mean and covariance, which the forest sees through; and a
    forest that tells every sample from the data says no more how far they are.

    Raises:
        ValueError: fewer than 100 rows of data.
    """
    if len(real) < LEAST_ROWS:
        raise ValueError(f"real holds {len(real)} samples; at least {LEAST_ROWS} are needed")
    one, other = np.array_split(np.random.default_rng(0).permutation(len(real)), 2)
    floor = frechet(real[one], real[other])

    def judged(samples: np.ndarray) -> float:
        alike = samples[:len(real)]
        area = real_or_generated(real[:len(alike)], alike, trees=TREES, folds=FOLDS)
        return frechet(real, samples) / floor + 2 * area

    return judged
