"""The base class of feature spaces: a name, a key, and the map from samples to rows of features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from torch import Tensor, inference_mode
from torch.nn import functional as F

from ornstein.data.dataset import Dataset
from ornstein.data.spec import DataSpec

__all__ = ["POOLS", "VALUES", "Features", "draw_rows", "varied_rows"]

VALUES = 2**27  # largest number of training values in memory: half a gigabyte

# Pooling over the cells of a grid, by its rank.
POOLS: dict[int, Callable[..., Tensor]] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class Features(ABC):
    """A feature space.

    Args:
        key: its short name.
        name: the name to print beside every number measured in it.
        spec: of the data that it takes.
        classes: that `predict` distinguishes; () if it cannot.
    """

    batch: ClassVar[int] = 256

    def __init__(self, key: str, name: str, spec: DataSpec, classes: tuple[str, ...] = ()) -> None:
        self.key, self.name, self.spec, self.classes = key, name, spec, classes

    def __call__(self, x: Tensor) -> np.ndarray:
        """Return the (N, F) float64 features of (N, *spec.shape) samples in [-1, 1]."""
        return self._in_batches(x, self._features)

    def predict(self, x: Tensor) -> np.ndarray:
        """Return the (N,) predicted classes of (N, *spec.shape) samples, as indices into `classes`."""
        if not self.classes:
            raise ValueError(f"features {self.name!r} were not trained on classes, so they cannot predict any")
        return self._in_batches(x, self._scores).argmax(1)

    def state(self) -> dict[str, Tensor]:
        """What was learned, so that it can be restored; empty where learning it again costs little."""
        return {}

    def _in_batches(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        if not len(x) or tuple(x.shape[1:]) != self.spec.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; features need (N, "
                             f"{', '.join(map(str, self.spec.shape))}) with N >= 1")
        if lost := int((~x.isfinite()).sum()):
            raise ValueError(f"x holds {lost} values that are not finite; every value must be a finite number")
        with inference_mode():
            return np.concatenate([function(batch.detach().cpu().float()).double().cpu().numpy()
                                   for batch in x.split(self.batch)])

    @abstractmethod
    def _features(self, x: Tensor) -> Tensor:
        """Map (B, *shape) float32 on the CPU to (B, F)."""

    def _scores(self, x: Tensor) -> Tensor:
        """Map (B, *shape) float32 on the CPU to (B, classes), highest for the most likely class."""
        raise NotImplementedError


def draw_rows(rows: np.ndarray, limit: int, seed: int | np.random.Generator) -> np.ndarray:
    """At most `limit` of the rows, drawn without replacement, in order."""
    if len(rows) <= limit:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


def varied_rows(training: Dataset, rows: np.ndarray, minimum: int, key: str) -> Tensor:
    """Return the encoded training rows, or raise ValueError if they are fewer than `minimum` or all equal."""
    if len(rows) < minimum:
        raise ValueError(f"data {training.spec.name!r} have {len(rows)} training samples; features {key!r} need at "
                         f"least {minimum}")
    x = training.batch(rows)[0]
    if bool((x == x[:1]).all()):
        raise ValueError(f"the training samples of data {training.spec.name!r} are all equal; features {key!r} need "
                         "samples that differ")
    return x
