"""How long each part of an evaluation will take on this machine, estimated from trials on its first rows."""

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
from ornstein.diffusion.likelihood.bound import ROWS, Float64Model
from ornstein.evaluation.classifier import FOLDS, TREES, grow_tree, tree_workers
from ornstein.evaluation.distances import frechet, neighbours
from ornstein.evaluation.intervals import DRAWS, GROUPS, PART, SPLITS, WIDE, WIDE_GROUPS, WIDE_SPLITS
from ornstein.evaluation.likelihoods import FEW_VALUES, bound_calls, flow, flow_blocks
from ornstein.evaluation.memorisation import comparison_count
from ornstein.evaluation.noise_levels import loss_curve_calls
from ornstein.evaluation.pieces import Pieces, PieceStore
from ornstein.evaluation.preparation import Rows
from ornstein.evaluation.progress import Progress
from ornstein.evaluation.reference import Reference
from ornstein.workers import worker_count

__all__ = ["Costs", "estimate_costs", "sample_costs", "shares"]

SMALL, LARGE = 4, 64  # rows of the network calls that are timed
WIDTHS = {"inception": 2048, "dinov2": 1024}  # approximate values in a row of features; 64 for the others
FULL_RUNS = 2 * PART**2  # cost of all rows in units of a third of them: once for the neighbours, once for the kernel


@dataclass(frozen=True)
class Costs:
    """Expected seconds of an evaluation.

    Args:
        small_call: of a network call of 4 rows.
        row: of each further row in a call.
        parts: of each part except the features and the samples.
        floors: shares of the feature spaces and the forests in the floors.
        distances: their shares in the distances.
        bounds: of each bound.
    """

    small_call: float
    row: float
    parts: dict[str, float]
    floors: list[float]
    distances: list[float]
    bounds: list[float]

    def calls(self, count: int, rows: int) -> float:
        """Seconds of evaluating the network on `count` rows, `rows` at a time."""
        return count * _seconds_per_row(self.small_call, self.row, rows)


def estimate_costs(model: Denoiser, training: Dataset, seen: Rows, unseen: Rows, reference: Reference,
                   spaces: Sequence[str], likelihood: bool, store: PieceStore, progress: Progress) -> Costs:
    """Time a small trial of each kind of work; the flow of its first rows is kept as a finished piece."""
    def call(count: int) -> Callable[[], object]:
        rows = torch.arange(count, device="cpu") % len(unseen)
        read = Float64Model(model, unseen.x[rows], None if unseen.condition is None else unseen.condition[rows])
        return lambda: read(read.x, torch.tensor(0.5, dtype=torch.float64, device="cpu"))

    small, large = (progress.time_trial(call(count)) for count in (SMALL, LARGE))
    row = max(0.0, (large - small) / (LARGE - SMALL))
    floors, distances, copies = sample_costs(training, reference, spaces, progress)
    size = len(unseen.x[0].flatten())
    parts = {"real data": sum(floors), "distances": sum(distances), "copies": copies, "noise levels": sum(
        loss_curve_calls(len(rows)) * _seconds_per_row(small, row, len(rows)) for rows in (seen, unseen))}
    bounds = list[float]()
    if likelihood:
        bounds = [calls * _seconds_per_row(small, row, len(seen if index == 1 else unseen))
                  for index, calls in enumerate(bound_calls(len(unseen), len(seen), training.spec.bins))]
        parts["bounds"] = sum(bounds)
        first, *others = [count * _seconds_per_row(small, row, count) for count in flow_blocks(len(unseen), size)]
        with suppress(RuntimeError):  # a failure here is raised again by its own part, unless the samples fail first
            flow(model, unseen, training.spec, reference.seed, limit=1,
                 pieces=Pieces(store, lambda *_: None, progress.clock))
            workers = worker_count() if size > FEW_VALUES else 1
            parts["flow"] = store.seconds("flow-0") * (1 + sum(others) / first / workers)
    return Costs(small, row, parts, shares(floors), shares(distances), bounds)


def sample_costs(training: Dataset, reference: Reference, spaces: Sequence[str],
                 progress: Progress) -> tuple[list[float], list[float], float]:
    """Expected seconds of the work that needs no model: of each feature space and forest for the floors, of each for
    the distances, and of the search for copies."""
    draw = np.random.default_rng(0)
    by_space = [_space_seconds(reference, WIDTHS.get(name.partition("=")[0], 64), draw, progress) for name in spaces]
    left, right = draw.standard_normal((256, 64)).astype("f4"), draw.standard_normal((64, 1024)).astype("f4")
    pair = progress.time_trial(lambda: np.minimum(left @ right, 0)) / (256 * 1024)  # one comparison of the copy search
    floors, distances = ([*by_space, *by_forest] for by_forest in _forest_seconds(reference, progress))
    return floors, distances, pair * comparison_count(training, reference.count + len(reference.unseen))


def shares(seconds: Sequence[float]) -> list[float]:
    """The share that each has of the sum."""
    return [part / max(sum(seconds), 1e-9) for part in seconds]


def _seconds_per_row(small_call: float, row: float, count: int) -> float:
    """Seconds of each row when the network is called on `count` rows."""
    block = min(count, ROWS)  # the last block is padded
    return math.ceil(count / block) * (small_call + row * max(block - SMALL, 0)) / count


def _space_seconds(reference: Reference, width: int, draw: np.random.Generator, progress: Progress) -> float:
    """Seconds of the intervals in a feature space of `width` values a row."""
    third, other = (draw.standard_normal((count // PART, width))
                    for count in (len(reference.unseen), reference.matched_count))
    groups = WIDE_GROUPS + WIDE_SPLITS if width >= WIDE else GROUPS + SPLITS
    return progress.time_trial(lambda: neighbours(third, other)) * (DRAWS + FULL_RUNS) + 2 * groups * (
        progress.time_trial(lambda: frechet(third, other)))


def _forest_seconds(reference: Reference, progress: Progress) -> list[list[float]]:
    """Seconds of the forests that tell unseen rows from training rows, and of those that tell samples from them."""
    real, samples, unseen = reference.forest_rows
    trees = [progress.time_trial(partial(grow_tree, view(reference.real[real]).numpy(),
                                         view(reference.unseen.x[unseen]).numpy()))
             for view in reference.forest_inputs.values()]
    per_row = TREES * FOLDS / (len(real) + len(unseen))
    return [[tree * per_row * count / tree_workers(count) for tree in trees]
            for count in (len(real) + len(unseen), len(real) + len(samples))]
