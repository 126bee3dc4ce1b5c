"""The distances of an evaluation: held-out data against generated and, as a floor, against training data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ornstein.evaluation.classifier import told_apart
from ornstein.evaluation.distances import as_rows, frechet, kernel
from ornstein.evaluation.intervals import Interval, frechet_interval, kernel_interval, neighbour_intervals
from ornstein.evaluation.report import Measure

__all__ = ["distances_between", "forest_between", "forest_measure", "forest_rows", "intervals_between", "measures_of"]

NAMES = {"frechet": "Fréchet distance", "kernel": "Kernel distance", "precision": "Precision", "recall": "Recall",
         "density": "Density", "coverage": "Coverage"}
INCEPTION = {"frechet": "FID", "kernel": "KID"}  # nothing else may be called so
SHOWN = 1500  # rows of a side that a forest sees: more cost minutes


def distances_between(held: np.ndarray, generated: np.ndarray, training: np.ndarray, features: str) -> list[Measure]:
    """Fréchet and kernel distance, precision, recall, density and coverage of generated rows, each with its floor.

    All `value`s and floors are of the first n rows, n = min(M, T), since most of them depend on the number of rows;
    limits and their intervals are of all rows. The rows must be in random order.

    Args:
        held: (N, F) features of held-out data, N >= 18.
        generated: (M, F) features of samples, M >= 18.
        training: (T, F) features of training data, T >= 18.
        features: name of the feature space; "inception: ..." alone makes "FID" and "KID" of the first two.

    Returns:
        Six measures, keys as in `Measure`.

    Raises:
        ValueError: too few rows, values that are not finite, or widths that differ.
    """
    held, generated, training = _three(held, generated, training, 18)
    count = min(len(generated), len(training))
    return measures_of(intervals_between(held, generated, count), intervals_between(held, training, count), features,
                       (len(held), count))


def intervals_between(held: np.ndarray, others: np.ndarray, count: int,
                      tell: Callable[[float], None] | None = None) -> dict[str, Interval]:
    """By key, with values at the first `count` of the others, and limits and their intervals at all."""
    found = neighbour_intervals(held, others[:count], tell=tell)._asdict()
    for key, of, value in (("frechet", frechet_interval, frechet), ("kernel", kernel_interval, kernel)):
        whole = of(held, others)
        if count < len(others):
            # Without a limit the interval is that of the value, so it belongs to the same rows.
            whole = of(held, others[:count]) if whole.limit is None else replace(
                whole, value=value(held, others[:count]))
        found[key] = whole
    return found


def measures_of(found: dict[str, Interval], floor: dict[str, Interval], features: str,
                counts: tuple[int, int]) -> list[Measure]:
    """The measures of a feature space, from the intervals of samples and those of real rows."""
    names = NAMES | INCEPTION if features.partition(":")[0] == "inception" else NAMES
    return [_measure(key, name, features, found[key], floor[key], 0.0 if key in ("frechet", "kernel") else 1.0, counts)
            for key, name in names.items()]


def forest_between(held: np.ndarray, generated: np.ndarray, training: np.ndarray, seed: int = 0) -> Measure:
    """How well a forest tells generated rows from training rows; the floor is how well it tells held-out ones.

    Of each side at most 1,500 rows are seen, and as many generated as training ones. Well below 0.5 means copies: a
    forest has seen the twin of a row under the other label.

    Args:
        held: (N, F) rows of held-out data, N >= 5.
        generated: (M, F) rows of samples, M >= 5.
        training: (T, F) rows of training data, T >= 5.
        seed: of which rows are seen, of the folds and the trees.

    Returns:
        The measure with the key "auc".

    Raises:
        ValueError: too few rows, values that are not finite, or widths that differ.
    """
    held, generated, training = _three(held, generated, training, 5)
    real, fake, other = (rows[some] for rows, some in zip(
        (training, generated, held), forest_rows(len(training), len(generated), len(held), seed), strict=True))
    return forest_measure(told_apart(real, fake, seed=seed), told_apart(real, other, seed=seed), len(real), len(fake))


def forest_rows(training: int, generated: int, held: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of so many rows a forest sees."""
    draw = np.random.default_rng(seed)
    real, fake, other = (draw.permutation(count)[:SHOWN] for count in (training, generated, held))
    few = min(len(real), len(fake))
    return real[:few], fake[:few], other


def forest_measure(found: Interval, floor: Interval, real: int, generated: int) -> Measure:
    """The measure of a forest, from how well it tells samples from training rows, and unseen rows from them."""
    return _measure("auc", "Told apart by a forest (AUC)", "", found, floor, 0.5, (real, generated))


def _three(held: np.ndarray, generated: np.ndarray, training: np.ndarray, least: int) -> list[np.ndarray]:
    sets = {"held": held, "generated": generated, "training": training}
    rows = [as_rows(name, values, least) for name, values in sets.items()]
    for name, some in zip(sets, rows, strict=True):
        if some.shape[1] != rows[0].shape[1]:
            raise ValueError(f"{name} has {some.shape[1]} values a row; held has {rows[0].shape[1]}, they must agree")
    return rows


def _measure(key: str, name: str, features: str, found: Interval, floor: Interval, best: float,
             counts: tuple[int, int]) -> Measure:
    # No distance is below 0, whatever its estimate without bias is.
    limits = [None if one.limit is None else max(one.limit, one.low) for one in (found, floor)]
    return Measure(key, name, features, found.value, found.low, found.high, best, *counts, limits[0],
                   floor.value, floor.low, floor.high, limits[1])
