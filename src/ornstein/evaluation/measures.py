"""The distances of an evaluation: held-out data against generated and, as a floor, against training data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ornstein.evaluation.distances import frechet, kernel
from ornstein.evaluation.intervals import frechet_interval, kernel_interval, neighbour_intervals
from ornstein.evaluation.results import Interval, Measure

__all__ = ["forest_measure", "forest_rows", "intervals_between", "measures_of"]

NAMES = {"frechet": "Fréchet distance", "kernel": "Kernel distance", "precision": "Precision", "recall": "Recall",
         "density": "Density", "coverage": "Coverage"}
INCEPTION = {"frechet": "FID", "kernel": "KID"}  # nothing else may be called so
SHOWN = 1500  # rows of a side that a forest sees: more cost minutes


def intervals_between(unseen: np.ndarray, others: np.ndarray, count: int,
                      tell: Callable[[float], None] | None = None) -> dict[str, Interval]:
    """By key, with values at the first `count` of the others, and limits and their intervals at all."""
    found = neighbour_intervals(unseen, others[:count], tell=tell)._asdict()
    for key, of, value in (("frechet", frechet_interval, frechet), ("kernel", kernel_interval, kernel)):
        whole = of(unseen, others)
        if count < len(others):
            # Without a limit the interval is that of the value, so it belongs to the same rows.
            whole = of(unseen, others[:count]) if whole.limit is None else replace(
                whole, value=value(unseen, others[:count]))
        found[key] = whole
    return found


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


def forest_measure(found: Interval, floor: Interval, real: int, generated: int) -> Measure:
    """The measure of a forest, from how well it tells samples from training rows, and unseen rows from them."""
    return _measure("auc", "Told apart by a forest (AUC)", "", found, floor, 0.5, (real, generated))


def _measure(key: str, name: str, features: str, found: Interval, floor: Interval, best: float,
             counts: tuple[int, int]) -> Measure:
    # No distance is below 0, whatever its estimate without bias is.
    one, other = (replace(each, limit=None if each.limit is None else max(each.limit, each.low))
                  for each in (found, floor))
    return Measure(key, name, features, one, other, best, *counts)
