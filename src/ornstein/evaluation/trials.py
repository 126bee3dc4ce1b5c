"""What each part of an evaluation will take on this machine, from trials on its first rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ornstein.data import Dataset
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.likelihood.bound import ROWS, Reader
from ornstein.evaluation.classifier import FOLDS, TREES, tree, workers
from ornstein.evaluation.compared import Compared
from ornstein.evaluation.distances import frechet, neighbours
from ornstein.evaluation.intervals import DRAWS, GROUPS, PART, SPLITS, WIDE, WIDE_GROUPS, WIDE_SPLITS
from ornstein.evaluation.kept import Kept, Pieces
from ornstein.evaluation.likelihoods import FEW_VALUES, calls_of_bounds, flow, flow_blocks
from ornstein.evaluation.memorisation import compared_with
from ornstein.evaluation.noise_levels import calls_of_levels
from ornstein.evaluation.pace import Pace
from ornstein.evaluation.rows import Rows
from ornstein.workers import worker_count

__all__ = ["Costs", "expected", "of_samples", "shares"]

SMALL, LARGE = 4, 64  # rows of a network call that is tried
WIDTHS = {"inception": 2048, "dinov2": 1024}  # values of a row of features, about; 64 of others
ALL = 2 * PART**2  # what all rows cost, in thirds of them: once for the neighbours, once for the kernel


@dataclass(frozen=True)
class Costs:
    """Expected seconds: of a network call of 4 rows (`few`), of each further `row`, of each part but the features and
    the samples, and of each bound; `floors` and `distances` are the shares of the feature spaces and of the forests in
    theirs."""

    few: float
    row: float
    parts: dict[str, float]
    floors: list[float]
    distances: list[float]
    bounds: list[float]

    def calls(self, asked: int, rows: int) -> float:
        """Of so many answers of the network, of so many rows at a time."""
        return asked * _row(self.few, self.row, rows)


def expected(model: Denoiser, training: Dataset, seen: Rows, rows: Rows, compared: Compared, spaces: Sequence[str],
             likelihood: bool, kept: Kept, pace: Pace) -> Costs:
    """Try each piece of the work once or twice; what comes of the flow's first rows is kept."""
    def asked(count: int) -> Callable[[], object]:
        some = torch.arange(count, device="cpu") % len(rows)
        read = Reader(model, rows.x[some], None if rows.condition is None else rows.condition[some])
        return lambda: read(read.x, torch.tensor(0.5, dtype=torch.float64, device="cpu"))

    few, many = (pace.timed(asked(count)) for count in (SMALL, LARGE))
    row = max(0.0, (many - few) / (LARGE - SMALL))
    floors, distances, copies = of_samples(training, compared, spaces, pace)
    size = len(rows.x[0].flatten())
    parts = {"real data": sum(floors), "distances": sum(distances), "copies": copies,
             "noise levels": sum(calls_of_levels(len(some)) * _row(few, row, len(some)) for some in (seen, rows))}
    bounds = list[float]()
    if likelihood:
        bounds = [calls * _row(few, row, len(seen if number == 1 else rows)) for number, calls in enumerate(
            calls_of_bounds(len(rows), len(seen), training.spec.bins))]
        parts["bounds"] = sum(bounds)
        first, *others = [count * _row(few, row, count) for count in flow_blocks(len(rows), size)]
        with suppress(RuntimeError):  # what fails here fails again in its own part, if the samples do not before
            flow(model, rows, training.spec, compared.seed, piece=Pieces(kept, lambda *_: None, pace.clock), most=1)
            parallel = worker_count() if size > FEW_VALUES else 1
            parts["flow"] = kept.took("flow-0") * (1 + sum(others) / first / parallel)
    return Costs(few, row, parts, shares(floors), shares(distances), bounds)


def of_samples(training: Dataset, compared: Compared, spaces: Sequence[str],
               pace: Pace) -> tuple[list[float], list[float], float]:
    """Expected seconds of what needs samples and no model: of each feature space and forest of the floors, of each of
    the distances, and of the search for copies."""
    draw = np.random.default_rng(0)
    each = [_space(compared, WIDTHS.get(name.partition("=")[0], 64), draw, pace) for name in spaces]
    left, right = draw.standard_normal((256, 64)).astype("f4"), draw.standard_normal((64, 1024)).astype("f4")
    pair = pace.timed(lambda: np.minimum(left @ right, 0)) / (256 * 1024)  # of the copies' comparisons
    floors, distances = ([*each, *some] for some in _forests(compared, pace))
    return floors, distances, pair * compared_with(training, compared.count + len(compared.fresh))


def shares(seconds: Sequence[float]) -> list[float]:
    """The share that each has of the sum."""
    return [part / max(sum(seconds), 1e-9) for part in seconds]


def _row(few: float, row: float, count: int) -> float:
    """Seconds of each of so many rows of a network call."""
    together = min(count, ROWS)  # and the last block is filled up
    return math.ceil(count / together) * (few + row * max(together - SMALL, 0)) / count


def _space(compared: Compared, width: int, draw: np.random.Generator, pace: Pace) -> float:
    """Seconds of the intervals in a feature space of so many values a row."""
    third, other = (draw.standard_normal((count // PART, width)) for count in (len(compared.fresh), compared.alike))
    groups = WIDE_GROUPS + WIDE_SPLITS if width >= WIDE else GROUPS + SPLITS
    return pace.timed(lambda: neighbours(third, other)) * (DRAWS + ALL) + 2 * groups * pace.timed(
        lambda: frechet(third, other))


def _forests(compared: Compared, pace: Pace) -> list[list[float]]:
    """Seconds of the forests of unseen rows among training rows, and of those of samples."""
    real, fake, unseen = compared.trees
    rows = [pace.timed(partial(tree, *(of(side[some]).numpy() for side, some in (
        (compared.real, real), (compared.fresh.x, unseen))))) for of in compared.forests.values()]
    each = TREES * FOLDS / (len(real) + len(unseen))
    return [[row * each * seen / workers(seen) for row in rows]
            for seen in (len(real) + len(unseen), len(real) + len(fake))]
