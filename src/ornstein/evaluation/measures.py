"""The distances of an evaluation: held-out data against generated and, as a floor, against training data."""

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

__all__ = ["forest_measure", "forest_rows", "intervals_between", "measures_of", "texture", "views"]

NAMES = {"frechet": "Fréchet distance", "kernel": "Kernel distance", "precision": "Precision", "recall": "Recall",
         "density": "Density", "coverage": "Coverage"}
INCEPTION = {"frechet": "FID", "kernel": "KID"}  # nothing else may be called so
FORESTS = {"auc": "Told apart by a forest (AUC)", "texture": "Told apart by texture (AUC)"}
SHOWN = 1500  # rows of a side that a forest sees: more cost minutes
TINY = 1e-6


def intervals_between(unseen: np.ndarray, others: np.ndarray, count: int,
                      tell: Callable[[float], None] | None = None) -> dict[str, Interval]:
    """By key, with values at the first `count` of the others, and limits and their intervals at all."""
    intervals = neighbour_intervals(unseen, others[:count], tell=tell)._asdict()
    for key, of, value in (("frechet", frechet_interval, frechet), ("kernel", kernel_interval, kernel)):
        whole = of(unseen, others)
        if count < len(others):
            # Without a limit the interval is that of the value, so it belongs to the same rows.
            whole = of(unseen, others[:count]) if whole.limit is None else replace(
                whole, value=value(unseen, others[:count]))
        intervals[key] = whole
    return intervals


def measures_of(found: dict[str, Interval], floor: dict[str, Interval], features: str,
                counts: tuple[int, int]) -> list[Measure]:
    """The measures of a feature space, from the intervals of samples and those of real rows."""
    names = NAMES | INCEPTION if features.partition(":")[0] == "inception" else NAMES
    return [_measure(key, name, features, found[key], floor[key], 0.0 if key in ("frechet", "kernel") else 1.0, counts)
            for key, name in names.items()]


def forest_rows(training: int, generated: int, unseen: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of so many rows a forest sees."""
    draw = np.random.default_rng(seed)
    real, fake, other = (draw.permutation(count)[:SHOWN] for count in (training, generated, unseen))
    few = min(len(real), len(fake))
    return real[:few], fake[:few], other


def forest_measure(key: str, found: Interval, floor: Interval, real: int, generated: int) -> Measure:
    """The measure of a forest, from how well it tells samples from training rows, and unseen rows from them."""
    return _measure(key, FORESTS[key], "", found, floor, 0.5, (real, generated))


def views(shape: Sequence[int]) -> dict[str, Callable[[Tensor], Tensor]]:
    """What each forest sees of (N, *shape) rows, by its key: values, and of sides of 8 or more texture too."""
    return {"auc": partial(torch.flatten, start_dim=1)} | (
        {"texture": texture} if len(shape) > 1 and min(shape[1:]) >= 8 else {})


def texture(x: Tensor) -> Tensor:
    """How rough (N, C, *sides) samples are, (N, F).

    A tree looks at one value at a time, so a forest of pixels hardly sees grain that lies anywhere. These are, at each
    scale and along each axis, size and sparseness of the differences of neighbours, how alike they are in all channels,
    and how much they shrink from one scale to the next.
    """
    pool, figures, before = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3], list[Tensor](), list[Tensor]()
    while min(x.shape[2:]) >= 4:
        now = []
        for axis in range(2, x.ndim):
            apart = x.diff(dim=axis).flatten(2)
            size, mean = apart.square().mean(2).sqrt(), apart.abs().mean(2)
            alike = (apart[:, 1:] * apart[:, :1]).mean(2) / (size[:, 1:] * size[:, :1] + TINY)
            figures += [size, mean / (size + TINY), apart.abs().amax(2), alike]
            now.append(size)
        figures += [coarse / (fine + TINY) for coarse, fine in zip(now, before, strict=False)]
        x, before = pool(x, 2), now
    return torch.cat(figures, 1)


def _measure(key: str, name: str, features: str, found: Interval, floor: Interval, best: float,
             counts: tuple[int, int]) -> Measure:
    # No distance is below 0, whatever its estimate without bias is.
    one, other = (replace(each, limit=None if each.limit is None else max(each.limit, each.low))
                  for each in (found, floor))
    return Measure(key, name, features, one, other, best, *counts)
