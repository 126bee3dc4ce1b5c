"""What every feature space offers: a name, a key, and the map from samples to rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from torch import Tensor, inference_mode
from torch.nn import functional as F

from ornstein.data.dataset import Dataset
from ornstein.data.spec import DataSpec

__all__ = ["POOLS", "VALUES", "Features", "draw_rows", "varied"]

VALUES = 2**27  # of training rows that are held in memory at most: half a gigabyte

# Means over the cells of a grid of so many sides, by rank.
POOLS: dict[int, Callable[..., Tensor]] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class Features(ABC):
    """A feature space: its short name, the name to print beside every number measured in it, the data that it takes,
    and the classes that `predict` tells apart."""

    batch: ClassVar[int] = 256  # samples at a time

    def __init__(self, key: str, name: str, spec: DataSpec, classes: tuple[str, ...] = ()) -> None:
        self.key, self.name, self.spec, self.classes = key, name, spec, classes

    def __call__(self, x: Tensor) -> np.ndarray:
        """Return the (N, F) float64 features of (N, *spec.shape) samples in [-1, 1]."""
        return self._in_batches(x, self._features)

    def predict(self, x: Tensor) -> np.ndarray:
        """Return the (N,) class that the network takes each of (N, *spec.shape) samples for, as indices into
        `classes`."""
        if not self.classes:
            raise ValueError(f"features {self.name!r} were not trained on classes, so they cannot predict any")
        return self._in_batches(x, self._scores).argmax(1)

    def state(self) -> dict[str, Tensor]:
        """What was learnt, so that it need not be learnt again; nothing where it costs little."""
        return {}

    def _in_batches(self, x: Tensor, of: Callable[[Tensor], Tensor]) -> np.ndarray:
        if not len(x) or tuple(x.shape[1:]) != self.spec.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; features are taken of (N, "
                             f"{', '.join(map(str, self.spec.shape))}) with N >= 1")
        if lost := int((~x.isfinite()).sum()):
            raise ValueError(f"x holds {lost} values that are not finite; every value must be a finite number")
        with inference_mode():
            return np.concatenate([of(part.detach().cpu().float()).double().cpu().numpy()
                                   for part in x.split(self.batch)])

    @abstractmethod
    def _features(self, x: Tensor) -> Tensor:
        """(B, *shape) float32 on the CPU to (B, F)."""

    def _scores(self, x: Tensor) -> Tensor:
        """(B, *shape) float32 on the CPU to (B, classes), the largest for the likeliest."""
        raise NotImplementedError


def draw_rows(rows: np.ndarray, most: int, seed: int | np.random.Generator) -> np.ndarray:
    """At most `most` of the rows, drawn without replacement, in order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def varied(training: Dataset, rows: np.ndarray, least: int, what: str) -> Tensor:
    """Return the encoded training rows, if they are at `least` so many and not all alike."""
    if len(rows) < least:
        raise ValueError(f"data {training.spec.name!r} have {len(rows)} training samples; features {what!r} need at "
                         f"least {least}")
    x = training.batch(rows)[0]
    if bool((x == x[:1]).all()):
        raise ValueError(f"the training samples of data {training.spec.name!r} are all alike; features {what!r} need "
                         "samples that differ")
    return x
