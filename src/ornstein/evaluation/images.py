"""The images that a report's page shows: samples beside real ones, and the nearest pairs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from ornstein.data import Dataset
from ornstein.evaluation.report import Report
from ornstein.evaluation.rows import Rows
from ornstein.figures.pictures import picture, show

__all__ = ["add_images", "shown"]

SHOWN, POINTS = 40, 1_000  # samples on the page, beside as many real ones; of vectors


def shown(data: Dataset) -> int:
    """How many samples of such data are shown, at most."""
    return SHOWN if len(data.spec.shape) > 1 else POINTS


def add_images(report: Report, x: Tensor, asked: Tensor | None, unseen: Dataset, training: Dataset,
               sample: Callable[[int], Tensor]) -> None:
    """Add samples (N, *shape) beside unseen rows, by class where there are any, and the nearest pairs, of which
    `sample` has the first by its number."""
    spec = training.spec
    fresh = Rows.of(unseen, shown(unseen), report.drawn["seed"])
    by_class = asked is not None and asked.ndim == 1 and bool(spec.classes) and fresh.condition is not None
    for name, rows, labels in (("samples", x, asked), ("real", fresh.x, fresh.condition)):
        rows, labels = rows[:len(fresh)], labels[:len(fresh)] if labels is not None and by_class else None
        order = torch.arange(len(rows), device="cpu") if labels is None else labels.argsort(stable=True)
        report.pictures[name] = show(spec, rows[order], 8, None if labels is None else labels[order])
    if report.memorisation is None or len(spec.shape) == 1:  # two points in a plane are nothing to look at
        return
    for number, pair in enumerate(report.memorisation.pairs):
        for kind, one in (("sample", sample(pair.sample)), ("training", training.batch([pair.training])[0])):
            report.pictures[f"pair-{number}-{kind}"] = (
                Image.fromarray(picture(spec, one)[0]) if spec.kind == "picture" else show(spec, one, 1))
