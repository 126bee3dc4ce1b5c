"""The 8 x 8 handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np

from ornstein.data.dataset import Dataset
from ornstein.data.spec import DataSpec

__all__ = ["load_digits"]


def load_digits() -> Dataset:
    """Return the 1,797 handwritten digits: (1, 8, 8) in 0..16, 1,500 for training and 297 held out."""
    from sklearn.datasets import load_digits as load

    values, labels = load(return_X_y=True)
    held = np.zeros(1797, dtype=bool)
    held[np.random.default_rng(0).permutation(1797)[1500:]] = True
    spec = DataSpec("digits", "picture", (1, 8, 8), 0.0, 16.0, 17, tuple("0123456789"))
    return Dataset(np.asarray(values, np.uint8).reshape(-1, 1, 8, 8), np.asarray(labels, np.int64), held, spec)
