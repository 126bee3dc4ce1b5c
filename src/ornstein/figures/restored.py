"""Samples restored from measurements: pictures beside the truth, or bands around it."""

from __future__ import annotations

import torch
from PIL.Image import Image
from torch import Tensor

from ornstein.data import DataSpec
from ornstein.figures.edits import draw_bands, summarise
from ornstein.figures.pictures import captioned

__all__ = ["draw_restorations"]

ROWS, DRAWS = 6, 4  # samples on a sheet, and draws of each picture


def draw_restorations(spec: DataSpec, truth: Tensor, measured: Tensor, draws: Tensor) -> Image | None:
    """Draw some samples (B, *shape), their measurements in the same shape, and draws (B, M, *shape), all in [-1, 1], as
    one image: pictures side by side, traces and vectors as bands; None for volumes."""
    truth, measured, draws = truth[:ROWS], measured[:ROWS], draws[:ROWS]
    if spec.kind == "picture":
        spread = draws.std(1)
        parts = [truth, measured, *draws.unbind(1)[:DRAWS], draws.mean(1),
                 2 * spread / spread.max().clamp(min=1e-6) - 1]
        names = ["truth", "measured", *[f"draw {index + 1}" for index in range(DRAWS)], "mean", "spread"]
        return captioned(spec, torch.stack(parts, 1).flatten(0, 1).clamp(-1, 1), len(parts), names * len(truth))
    if len(spec.shape) > 2:
        return None
    values = spec.decode(draws.flatten(0, 1)).reshape(draws.shape)
    return draw_bands(spec, summarise(values), spec.decode(truth), [f"sample {row + 1}" for row in range(len(truth))],
                      "truth")
