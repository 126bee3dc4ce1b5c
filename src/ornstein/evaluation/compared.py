"""The distances of an evaluation, piece by piece: first of real data from one another, then of samples."""

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
from ornstein.evaluation.classifier import accuracy_interval, told_apart
from ornstein.evaluation.features import Features, features
from ornstein.evaluation.kept import Pieces
from ornstein.evaluation.measures import forest_measure, forest_rows, intervals_between, measures_of, views
from ornstein.evaluation.ranking import COARSE
from ornstein.evaluation.results import Interval, Measure
from ornstein.evaluation.rows import Rows, without

__all__ = ["Compared"]

FLOOR = 2_000  # training rows, at most, that no feature is fitted to
COMPARED = 10_000  # rows of a side, at most
VALUES = 2**27  # and values in them


@dataclass
class Compared:
    """What samples are compared with: real rows that forests tell them from (`real`, (N, *shape), the first `within` of
    which are among `fresh`), rows that no feature is fitted to (`other`), which give the floors, and unseen ones
    (`fresh`), in feature spaces that are set once they are fitted. Figures that depend on the number of samples are
    measured on `count` of them."""

    real: Tensor
    other: Rows
    fresh: Rows
    count: int
    seed: int
    fewest: int = 0
    within: int = 0
    spaces: list[Features] = field(default_factory=list)
    _unseen: dict[int, np.ndarray] = field(default_factory=dict)
    _floors: list[dict[str, Interval]] = field(default_factory=list)

    @classmethod
    def of(cls, training: Dataset, unseen: Dataset, count: int, seed: int,
           alike: bool = False) -> tuple[Compared, Dataset]:
        """Training rows and unseen ones for so many samples to be compared with, in memory that has a bound; and the
        rows that feature spaces are to be fitted to. `alike` where nobody was trained on any of them, so that they are
        one sample of one law."""
        # A network's features are other on the rows that it was trained on, and a perfect model would not reach a floor
        # of those: a quarter of the rows is set aside, or as many as there are unseen ones.
        aside = min(len(unseen) if alike else len(training) // 4, FLOOR)
        some = np.zeros(len(training), bool)
        some[noise.generator(seed, "evaluate", 2).permutation(len(training))[:aside]] = True
        fit, apart = without(training, some)
        most = cls.most(training)
        real, other, fresh = (Rows.of(part, most, seed) for part in (training, apart, unseen))
        told = torch.cat([fresh.x, real.x]) if alike else real.x
        return cls(told, other, fresh, min(count, most), seed, min(len(unseen), len(apart)), len(told) - len(real)), fit

    @staticmethod
    def most(data: Dataset) -> int:
        """Rows of such data that are looked at, at most."""
        return int(min(COMPARED, VALUES // np.prod(data.spec.shape)))

    @property
    def notes(self) -> list[str]:
        """Sentences for the report."""
        return [] if self.fewest >= COARSE else [
            f"only {len(self.fresh)} unseen rows, and {len(self.other)} real ones to compare with: these figures can "
            "show coarse differences only"]

    def learn(self, piece: Pieces, names: Sequence[str], fit: Dataset) -> None:
        """Fit the feature spaces, or take them from what is kept of them."""
        most = max(4, min(64, self.fewest // 4))
        self.spaces = [self._space(name, fit, most, piece, number, len(names))
                       for number, name in enumerate(names)]

    def _space(self, name: str, fit: Dataset, most: int, piece: Pieces, number: int, count: int) -> Features:
        made, inside = list[Features](), piece.within(number / count, (number + 1) / count)

        def make() -> dict[str, Tensor]:
            made.append(features(name, fit, seed=self.seed, most=most, tell=inside))
            return made[0].state()

        state = piece.tensors(f"space-{number}", make, (number + 1) / count)
        return made[0] if made else features(name, fit, seed=self.seed, most=most, state=state)

    @property
    def alike(self) -> int:
        """How many samples, and how many real rows, most figures are measured on."""
        return min(self.count, len(self.other))

    @property
    def trees(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which real rows, samples and unseen rows a forest sees."""
        return forest_rows(len(self.real), self.count, len(self.fresh), self.seed)

    @property
    def forests(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """What each forest sees of rows, by its key."""
        return views(self.real.shape[1:])

    def floors(self, piece: Pieces, shares: list[float]) -> None:
        """How far real data are from one another, by each space and each forest, of given shares of the work."""
        real, _, unseen = self.trees
        apart = self.real[real[real >= self.within]]
        self._floors = self._intervals(piece, "floor", self.other.x, apart, self.fresh.x[unseen], shares)

    def measures(self, piece: Pieces, x: Tensor, asked: Tensor | None, shares: list[float]) -> list[Measure]:
        """How far (N, *shape) samples in random order, drawn with the classes or conditions `asked` for, are from
        unseen rows."""
        real, fake, _ = self.trees
        intervals = self._intervals(piece, "distance", x, self.real[real], x[fake], shares)
        spaces, forests = intervals[:len(self.spaces)], intervals[len(self.spaces):]
        measures = list[Measure]()
        for space, one, floor in zip(self.spaces, spaces, self._floors, strict=False):
            measures += measures_of(one, floor, space.name, (len(self.fresh), self.alike))
            if space.classes and all(labels is not None and labels.ndim == 1 and (labels >= 0).any()
                                     for labels in (asked, self.fresh.condition)):
                measures.append(_accuracy(space, (x, asked), (self.fresh.x, self.fresh.condition)))
        return measures + [forest_measure(key, forest[key], floor[key], len(real), len(fake)) for key, forest, floor in
                           zip(self.forests, forests, self._floors[len(self.spaces):], strict=True)]

    def _intervals(self, piece: Pieces, name: str, x: Tensor, seen: Tensor, others: Tensor,
                   shares: list[float]) -> list[dict[str, Interval]]:
        """Of rows and unseen ones by each space, and of the rows that each forest tells apart."""
        def forest(key: str, of: Callable[[Tensor], Tensor], tell: Callable[[float], None]) -> dict[str, Interval]:
            flat, other = (of(rows).double().numpy() for rows in (seen, others))
            return {key: told_apart(flat, other, seed=self.seed, tell=tell)}

        works = {str(number): partial(self._between, number, space, x) for number, space in enumerate(self.spaces)}
        works |= {key: partial(forest, key, of) for key, of in self.forests.items()}
        ends = [*np.cumsum(shares).tolist()[:-1], 1.0]
        return [piece(f"{name}-{which}", partial(work, piece.within(end - share, end)), _read, end)
                for (which, work), share, end in zip(works.items(), shares, ends, strict=True)]

    def _between(self, number: int, space: Features, x: Tensor, tell: Callable[[float], None]) -> dict[str, Interval]:
        if number not in self._unseen:
            self._unseen[number] = space(self.fresh.x)
        return intervals_between(self._unseen[number], space(x), self.alike, tell)


def _read(intervals: dict[str, Any]) -> dict[str, Interval]:
    return {key: Interval(**one) for key, one in intervals.items()}


def _accuracy(space: Features, *rows: tuple[Tensor, Tensor | None]) -> Measure:
    """How often a classifier sees in a sample the class that was asked for; its floor are unseen real rows."""
    hits = []
    for x, labels in rows:
        wanted = labels if labels is not None else torch.full((len(x),), -1, device="cpu")
        asked = wanted >= 0
        hits.append(space.predict(x[asked]) == wanted[asked].numpy())
    found, floor = (accuracy_interval(int(hit.sum()), len(hit)) for hit in hits)
    return Measure("accuracy", "Recognised as the class asked for", space.name, found, floor, 1.0, len(hits[1]),
                   len(hits[0]))
