"""The training rows nearest to a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ornstein.arguments import require_int
from ornstein.data import Dataset, load_data
from ornstein.evaluation.memorisation import NeighbourSearch
from ornstein.isolation import isolated

__all__ = ["Neighbour", "nearest"]

MIN_ROWS = 2  # training rows, so that one can be nearer than another


@dataclass(frozen=True)
class Neighbour:
    """A training row near a sample.

    Args:
        row: its index in the data.
        name: of its file, or "row 17" where rows have no names.
        label: name of its class; "" without one.
        distance: root mean square difference relative to the data's scale, from 0 (equal) to 1 (black and white).
        how: the change of the row that comes nearest: "as it is", "flipped", "cropped", or both of these.
    """

    row: int
    name: str
    label: str
    distance: float
    how: str


@isolated(gradients=False)
def nearest(x: Tensor, data: Any, count: int = 8) -> list[list[Neighbour]]:
    """Find the training rows nearest to samples, as `evaluate` does to find copies.

    Pictures are compared at 8 x 8 pixels, to the training pictures as they are, flipped, and cropped at nine places to
    95, 85 and 75 % of their sides, flipped or not; other arrays only as they are, pooled. More than 64 values become 64
    principal components.

    Args:
        x: (B, *shape) samples in [-1, 1], as `ornstein.sample` draws them.
        data: what the model was trained on: a `Dataset`, or anything that `load_data` takes. Held-out rows are ignored.
        count: neighbours of each sample, >= 1; all training rows if there are fewer.

    Returns:
        The nearest rows of each sample, nearest first.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or fewer than two training rows.
    """
    data = data if isinstance(data, Dataset) else load_data(data)
    spec, rows = data.spec, np.flatnonzero(~data.held)
    if tuple(x.shape[1:]) != spec.shape or not len(x):
        raise ValueError(f"x has shape {tuple(x.shape)}; data {spec.name!r} have samples (B, "
                         f"{', '.join(map(str, spec.shape))}) with B >= 1")
    if lost := int((~x.isfinite()).sum()):
        raise ValueError(f"x holds {lost} values that are not finite; every value must be a finite number")
    if len(rows) < MIN_ROWS:
        raise ValueError(f"data {spec.name!r} have {len(rows)} training rows; at least {MIN_ROWS} are needed")
    x, count = x.detach().cpu().float(), min(require_int("count", count), len(rows))
    search = NeighbourSearch(data, rows, seed=0, count=count)
    neighbours = []
    for sample, near in zip(x.split(1), search(x)[1], strict=True):
        how, distance = search.nearest_change(sample.expand(count, *spec.shape), near)
        neighbours.append([_neighbour(data, int(near[i]), distance[i] / (2 * search.values ** 0.5), how[i])
                           for i in np.argsort(distance, kind="stable")])
    return neighbours


def _neighbour(data: Dataset, row: int, distance: float, how: str) -> Neighbour:
    name, label = f"row {row}" if data.names is None else data.names[row], int(data.labels[row])
    return Neighbour(row, name, data.spec.classes[label] if label >= 0 else "", float(distance), how)
