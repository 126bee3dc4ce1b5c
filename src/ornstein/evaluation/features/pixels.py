"""The values themselves, or the principal components that hold most of their variance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ornstein.data.dataset import Dataset
from ornstein.evaluation.features.space import VALUES, Features, draw_rows, varied_rows

__all__ = ["MAX_VALUES", "PixelFeatures"]

MAX_VALUES = 64  # with more, as many principal components replace the values
ROWS = 20_000  # largest number of training rows that components are fitted to


class PixelFeatures(Features):
    """The values of a sample, or their first `components` principal components where there are more (Hotelling
    1933)."""

    batch = 4096

    def __init__(self, training: Dataset, seed: int = 0, components: int = MAX_VALUES) -> None:
        values = int(np.prod(training.spec.shape))
        rows = draw_rows(np.arange(len(training)), min(ROWS, VALUES // values), seed)
        x = varied_rows(training, rows, 2, "pixels").flatten(1)
        self.mean = self.axes = None
        kind = "pixels" if training.spec.kind == "picture" else "values"
        name = f"pixels: {values} values" if kind == "pixels" else f"values: {values}"
        if values > components:
            from sklearn.decomposition import PCA

            count = min(components, len(x) - 1)
            # With 64 of thousands of components, the randomized solver finds the same span to about 1e-3.
            pca = PCA(count, svd_solver="randomized", iterated_power=4, random_state=seed % 2**32).fit(x.numpy())
            self.mean, self.axes = torch.from_numpy(pca.mean_).float(), torch.from_numpy(pca.components_).float()
            name = f"{kind}: {count} principal components of {values:,} values"
        super().__init__("pixels", name, training.spec)

    def _features(self, x: Tensor) -> Tensor:
        x = x.flatten(1).double()
        return x if self.mean is None or self.axes is None else (x - self.mean.double()) @ self.axes.double().T
