"""The measures of an evaluation: held-out data against samples and, for the floors, against training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ornstein.evaluation.distances import frechet, kernel
from ornstein.evaluation.intervals import frechet_interval, kernel_interval, neighbour_intervals
from ornstein.evaluation.results import Interval, Measure

__all__ = ["forest_inputs", "forest_measure", "forest_rows", "intervals_between", "space_measures", "texture"]

NAMES = {"frechet": "Fréchet distance", "kernel": "Kernel distance", "precision": "Precision", "recall": "Recall",
         "density": "Density", "coverage": "Coverage"}
INCEPTION = {"frechet": "FID", "kernel": "KID"}  # names reserved for Inception features
FORESTS = {"auc": "Told apart by a forest (AUC)", "texture": "Told apart by texture (AUC)"}
FOREST_ROWS = 1500  # largest number of rows of a side that a forest sees; more take minutes
TINY = 1e-6  # avoids division by 0


def intervals_between(unseen: np.ndarray, others: np.ndarray, count: int,
                      progress: Callable[[float], None] | None = None) -> dict[str, Interval]:
    """Intervals by key, with values of the first `count` of the others, and limits and their intervals of all."""
    intervals = neighbour_intervals(unseen, others[:count], progress=progress)._asdict()
    for key, interval_of, value in (("frechet", frechet_interval, frechet), ("kernel", kernel_interval, kernel)):
        interval = interval_of(unseen, others)
        if count < len(others):
            # Without a limit the interval is that of the value, so it must be of the same rows.
            interval = interval_of(unseen, others[:count]) if interval.limit is None else replace(
                interval, value=value(unseen, others[:count]))
        intervals[key] = interval
    return intervals


def space_measures(found: dict[str, Interval], floor: dict[str, Interval], features: str,
                   counts: tuple[int, int]) -> list[Measure]:
    """The measures of a feature space, from the intervals of samples and of real rows."""
    names = NAMES | INCEPTION if features.partition(":")[0] == "inception" else NAMES
    return [_measure(key, name, features, found[key], floor[key], 0.0 if key in ("frechet", "kernel") else 1.0, counts)
            for key, name in names.items()]


def forest_rows(training: int, generated: int, unseen: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the rows that a forest sees, as many training as generated ones."""
    rng = np.random.default_rng(seed)
    real, samples, other = (rng.permutation(count)[:FOREST_ROWS] for count in (training, generated, unseen))
    count = min(len(real), len(samples))
    return real[:count], samples[:count], other


def forest_measure(key: str, found: Interval, floor: Interval, real: int, generated: int) -> Measure:
    """The measure of a forest that tells samples from training rows, and for the floor unseen rows from them."""
    return _measure(key, FORESTS[key], "", found, floor, 0.5, (real, generated))


def forest_inputs(shape: Sequence[int]) -> dict[str, Callable[[Tensor], Tensor]]:
    """The inputs of each forest from (N, *shape) rows, by its key: values, and texture if all sides are 8 or more."""
    return {"auc": partial(torch.flatten, start_dim=1)} | (
        {"texture": texture} if len(shape) > 1 and min(shape[1:]) >= 8 else {})


def texture(x: Tensor) -> Tensor:
    """Texture features of (N, C, *sides) samples, (N, F).

    A tree looks at one value at a time, so a forest of pixels hardly sees grain that may lie anywhere. The features
    are, at each scale and along each axis, size and sparseness of the differences of neighbours, their correlation
    between channels, and how much they shrink from one scale to the next.
    """
    pool, columns, finer = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3], list[Tensor](), list[Tensor]()
    while min(x.shape[2:]) >= 4:
        sizes = []
        for axis in range(2, x.ndim):
            difference = x.diff(dim=axis).flatten(2)
            size, mean = difference.square().mean(2).sqrt(), difference.abs().mean(2)
            correlation = (difference[:, 1:] * difference[:, :1]).mean(2) / (size[:, 1:] * size[:, :1] + TINY)
            columns += [size, mean / (size + TINY), difference.abs().amax(2), correlation]
            sizes.append(size)
        columns += [coarse / (fine + TINY) for coarse, fine in zip(sizes, finer, strict=False)]
        x, finer = pool(x, 2), sizes
    return torch.cat(columns, 1)


def _measure(key: str, name: str, features: str, found: Interval, floor: Interval, best: float,
             counts: tuple[int, int]) -> Measure:
    # An unbiased estimate may be negative, a distance may not.
    found, floor = (replace(interval, limit=None if interval.limit is None else max(interval.limit, interval.low))
                    for interval in (found, floor))
    return Measure(key, name, features, found, floor, best, *counts)
