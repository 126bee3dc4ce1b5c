"""The images that a report's page shows: samples beside real ones, and the nearest pairs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from ornstein.data import Dataset
from ornstein.evaluation.preparation import Rows
from ornstein.evaluation.report import Report
from ornstein.figures.pictures import picture, show

__all__ = ["add_images", "shown_count"]

SAMPLES, POINTS = 40, 1_000  # samples on the page, beside as many real ones; POINTS where they are vectors


def shown_count(data: Dataset) -> int:
    """The largest number of samples of such data that are shown."""
    return SAMPLES if len(data.spec.shape) > 1 else POINTS


def add_images(report: Report, x: Tensor, condition: Tensor | None, unseen: Dataset, training: Dataset,
               sample: Callable[[int], Tensor]) -> None:
    """Add samples (N, *shape) and unseen rows, sorted by class where they have classes, and the nearest pairs, whose
    samples are `sample(index)`."""
    spec = training.spec
    fresh = Rows.of(unseen, shown_count(unseen), report.drawn["seed"])
    by_class = condition is not None and condition.ndim == 1 and bool(spec.classes) and fresh.condition is not None
    for name, rows, labels in (("samples", x, condition), ("real", fresh.x, fresh.condition)):
        rows, labels = rows[:len(fresh)], labels[:len(fresh)] if labels is not None and by_class else None
        order = torch.arange(len(rows), device="cpu") if labels is None else labels.argsort(stable=True)
        report.pictures[name] = show(spec, rows[order], 8, None if labels is None else labels[order])
    if report.memorisation is None or len(spec.shape) == 1:  # a pair of points shows nothing
        return
    for index, pair in enumerate(report.memorisation.pairs):
        for kind, row in (("sample", sample(pair.sample)), ("training", training.batch([pair.training])[0])):
            report.pictures[f"pair-{index}-{kind}"] = (
                Image.fromarray(picture(spec, row)[0]) if spec.kind == "picture" else show(spec, row, 1))
