"""The values themselves, or the principal components that hold most of their variance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ornstein.data.dataset import Dataset
from ornstein.evaluation.features.space import VALUES, Features, draw_rows, varied

__all__ = ["Pixels"]

MOST = 64  # values that are taken as they are, and components in place of more
ROWS = 20_000  # training rows that components are fitted on


class Pixels(Features):
    """The values of a sample, or at `most` 64 principal components where there are more (Hotelling 1933)."""

    batch = 4096

    def __init__(self, training: Dataset, seed: int = 0, most: int = MOST) -> None:
        values = int(np.prod(training.spec.shape))
        x = varied(training, draw_rows(np.arange(len(training)), min(ROWS, VALUES // values), seed), 2,
                   "pixels").flatten(1)
        self.mean = self.axes = None
        kind = "pixels" if training.spec.kind == "picture" else "values"
        name = f"{kind}: {values}" if kind == "values" else f"{kind}: {values} values"
        if values > most:
            from sklearn.decomposition import PCA

            count = min(most, len(x) - 1)
            # Whole rows are 64 of thousands of components: the approximate ones have the same span to some 1e-3.
            fitted = PCA(count, svd_solver="randomized", iterated_power=4, random_state=seed % 2**32).fit(x.numpy())
            self.mean, self.axes = (torch.from_numpy(part).float() for part in (fitted.mean_, fitted.components_))
            name = f"{kind}: {count} principal components of {values:,} values"
        super().__init__("pixels", name, training.spec)

    def _features(self, x: Tensor) -> Tensor:
        x = x.flatten(1).double()
        return x if self.mean is None or self.axes is None else (x - self.mean.double()) @ self.axes.double().T
