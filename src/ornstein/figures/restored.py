"""Samples restored from measurements: beside the truth as pictures, around it as bands."""

from __future__ import annotations

import torch
from PIL.Image import Image
from torch import Tensor

from ornstein.data import DataSpec
from ornstein.figures.edits import bands, figures_of
from ornstein.figures.pictures import captioned

__all__ = ["restored"]

ROWS, DRAWS = 6, 4  # samples in a sheet, and draws of each picture


def restored(spec: DataSpec, truth: Tensor, measured: Tensor, draws: Tensor) -> Image | None:
    """Some samples (B, *shape), what was `measured` of them in the same shape, and their draws (B, M, *shape), all in
    [-1, 1], as one image: pictures side by side, traces and vectors in bands; None for volumes."""
    truth, measured, draws = truth[:ROWS], measured[:ROWS], draws[:ROWS]
    if spec.kind == "picture":
        spread = draws.std(1)
        parts = [truth, measured, *draws.unbind(1)[:DRAWS], draws.mean(1),
                 2 * spread / spread.max().clamp(min=1e-6) - 1]
        names = ["truth", "measured", *[f"draw {place + 1}" for place in range(DRAWS)], "mean", "spread"]
        return captioned(spec, torch.stack(parts, 1).flatten(0, 1).clamp(-1, 1), len(parts), names * len(truth))
    if len(spec.shape) > 2:
        return None
    values = spec.decode(draws.flatten(0, 1)).reshape(draws.shape)
    return bands(spec, figures_of(values), spec.decode(truth), [f"sample {row + 1}" for row in range(len(truth))],
                 "truth")
