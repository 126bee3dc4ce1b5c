"""The real data that samples are compared with: its distances from itself, which are the floors, and from samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein import noise
from ornstein.data import Dataset
from ornstein.evaluation.classifier import accuracy_interval, forest_auc_interval
from ornstein.evaluation.features import Features, features
from ornstein.evaluation.measures import forest_inputs, forest_measure, forest_rows, intervals_between, space_measures
from ornstein.evaluation.pieces import Pieces
from ornstein.evaluation.preparation import Rows, split_off
from ornstein.evaluation.ranking import ENOUGH_ROWS
from ornstein.evaluation.results import Interval, Measure

__all__ = ["Reference"]

FLOOR = 2_000  # largest number of training rows that no feature is fitted to
COMPARED = 10_000  # largest number of rows of a side
VALUES = 2**27  # and of values in them


@dataclass
class Reference:
    """The real rows that samples are compared with, and the feature spaces for it.

    Args:
        real: (N, *shape) rows that forests tell samples from; the first `unseen_in_real` of them are among `unseen`.
        floor_rows: rows that no feature is fitted to, in place of samples for the floors.
        unseen: unseen rows.
        count: samples that figures depending on the number of samples are measured on.
        seed: of the orders and forests.
        smallest: rows in the smaller of the two sets that give the floors.
        unseen_in_real: as above.
        spaces: feature spaces, once fitted.
    """

    real: Tensor
    floor_rows: Rows
    unseen: Rows
    count: int
    seed: int
    smallest: int = 0
    unseen_in_real: int = 0
    spaces: list[Features] = field(default_factory=list)
    _unseen_features: dict[int, np.ndarray] = field(default_factory=dict)
    _floors: list[dict[str, Interval]] = field(default_factory=list)

    @classmethod
    def build(cls, training: Dataset, unseen: Dataset, count: int, seed: int,
              exchangeable: bool = False) -> tuple[Reference, Dataset]:
        """Draw a bounded number of training and unseen rows to compare `count` samples with; also return the rows to
        fit feature spaces to. `exchangeable` says that no model was trained on any of them, so that they are one
        sample of one distribution."""
        # A network's features differ on the rows that it was trained on, and even a perfect model would miss a floor
        # measured on those: a quarter of the rows is set aside, or as many as there are unseen ones.
        set_aside = min(len(unseen) if exchangeable else len(training) // 4, FLOOR)
        mask = np.zeros(len(training), bool)
        mask[noise.generator(seed, "evaluate", 2).permutation(len(training))[:set_aside]] = True
        fit, floor = split_off(training, mask)
        limit = cls.row_limit(training)
        real, floor_rows, fresh = (Rows.of(data, limit, seed) for data in (training, floor, unseen))
        forest_real = torch.cat([fresh.x, real.x]) if exchangeable else real.x
        return cls(forest_real, floor_rows, fresh, min(count, limit), seed, min(len(unseen), len(floor)),
                   len(forest_real) - len(real)), fit

    @staticmethod
    def row_limit(data: Dataset) -> int:
        """The largest number of rows of such data that are compared."""
        return int(min(COMPARED, VALUES // np.prod(data.spec.shape)))

    @property
    def notes(self) -> list[str]:
        """Sentences for the report."""
        return [] if self.smallest >= ENOUGH_ROWS else [
            f"only {len(self.unseen)} unseen rows, and {len(self.floor_rows)} real ones to compare with: these figures "
            "can show coarse differences only"]

    def fit_spaces(self, pieces: Pieces, names: Sequence[str], fit: Dataset) -> None:
        """Fit the feature spaces, or restore them from an earlier run."""
        components = max(4, min(64, self.smallest // 4))
        self.spaces = [self._fit_space(name, fit, components, pieces, index, len(names))
                       for index, name in enumerate(names)]

    def _fit_space(self, name: str, fit: Dataset, components: int, pieces: Pieces, index: int,
                   count: int) -> Features:
        fitted, progress = list[Features](), pieces.within(index / count, (index + 1) / count)

        def compute() -> dict[str, Tensor]:
            fitted.append(features(name, fit, seed=self.seed, components=components, progress=progress))
            return fitted[0].state()

        state = pieces.tensors(f"space-{index}", compute, (index + 1) / count)
        return fitted[0] if fitted else features(name, fit, seed=self.seed, components=components, state=state)

    @property
    def matched_count(self) -> int:
        """How many samples, and how many real rows in their place, most figures are measured on."""
        return min(self.count, len(self.floor_rows))

    @property
    def forest_rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which real rows, samples and unseen rows a forest sees."""
        return forest_rows(len(self.real), self.count, len(self.unseen), self.seed)

    @property
    def forest_inputs(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """What each forest, by its key, sees of rows."""
        return forest_inputs(self.real.shape[1:])

    def measure_floors(self, pieces: Pieces, shares: list[float]) -> None:
        """Measure how far real data are from one another, by each space and each forest with its share of the work."""
        real, _, unseen = self.forest_rows
        not_unseen = self.real[real[real >= self.unseen_in_real]]
        self._floors = self._intervals(pieces, "floor", self.floor_rows.x, not_unseen, self.unseen.x[unseen], shares)

    def measure(self, pieces: Pieces, x: Tensor, condition: Tensor | None, shares: list[float]) -> list[Measure]:
        """Measure how far (N, *shape) samples in random order, drawn for these classes or conditions, are from unseen
        rows."""
        real, sampled, _ = self.forest_rows
        intervals = self._intervals(pieces, "distance", x, self.real[real], x[sampled], shares)
        by_space, by_forest = intervals[:len(self.spaces)], intervals[len(self.spaces):]
        measures = list[Measure]()
        for space, found, floor in zip(self.spaces, by_space, self._floors, strict=False):
            measures += space_measures(found, floor, space.name, (len(self.unseen), self.matched_count))
            if space.classes and all(labels is not None and labels.ndim == 1 and (labels >= 0).any()
                                     for labels in (condition, self.unseen.condition)):
                measures.append(_accuracy(space, (x, condition), (self.unseen.x, self.unseen.condition)))
        return measures + [
            forest_measure(key, found[key], floor[key], len(real), len(sampled))
            for key, found, floor in zip(self.forest_inputs, by_forest, self._floors[len(self.spaces):], strict=True)]

    def _intervals(self, pieces: Pieces, name: str, x: Tensor, real: Tensor, others: Tensor,
                   shares: list[float]) -> list[dict[str, Interval]]:
        """Intervals between rows `x` and unseen ones by each space, and of each forest that tells others from real
        rows."""
        def forest(key: str, view: Callable[[Tensor], Tensor],
                   progress: Callable[[float], None]) -> dict[str, Interval]:
            a, b = (view(rows).double().numpy() for rows in (real, others))
            return {key: forest_auc_interval(a, b, seed=self.seed, progress=progress)}

        works = {str(index): partial(self._space_intervals, index, space, x) for index, space in enumerate(self.spaces)}
        works |= {key: partial(forest, key, view) for key, view in self.forest_inputs.items()}
        ends = [*np.cumsum(shares).tolist()[:-1], 1.0]
        return [pieces.figures(f"{name}-{which}", partial(work, pieces.within(end - share, end)), _read, end)
                for (which, work), share, end in zip(works.items(), shares, ends, strict=True)]

    def _space_intervals(self, index: int, space: Features, x: Tensor,
                         progress: Callable[[float], None]) -> dict[str, Interval]:
        if index not in self._unseen_features:
            self._unseen_features[index] = space(self.unseen.x)
        return intervals_between(self._unseen_features[index], space(x), self.matched_count, progress)


def _read(intervals: dict[str, Any]) -> dict[str, Interval]:
    return {key: Interval(**interval) for key, interval in intervals.items()}


def _accuracy(space: Features, *rows: tuple[Tensor, Tensor | None]) -> Measure:
    """How often a classifier recognises a sample as the class that was asked for; the floor is that of unseen rows."""
    hits = []
    for x, labels in rows:
        expected = labels if labels is not None else torch.full((len(x),), -1, device="cpu")
        labelled = expected >= 0
        hits.append(space.predict(x[labelled]) == expected[labelled].numpy())
    found, floor = (accuracy_interval(int(hit.sum()), len(hit)) for hit in hits)
    return Measure("accuracy", "Recognised as the class asked for", space.name, found, floor, 1.0, len(hits[1]),
                   len(hits[0]))
