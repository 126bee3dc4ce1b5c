"""Samples restored from measurements: beside the truth as pictures, around it as bands or error bars."""

from __future__ import annotations

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from ornstein.data import DataSpec
from ornstein.figures.arrays import COLOURS, canvas, plain, rendered
from ornstein.figures.pictures import captioned

__all__ = ["restored"]

ROWS, DRAWS, ACROSS = 6, 4, 3  # samples in a sheet, draws of each picture, and traces or vectors beside one another
CHANNELS = 3  # of traces
TAILS = ((5, 95), (25, 75))  # per cent, that bands of 90 and 50 % run between


def restored(spec: DataSpec, truth: Tensor, measured: Tensor, draws: Tensor, left: Tensor) -> Image | None:
    """Some samples (B, *shape), what was `measured` of them in the same shape, and their draws (B, M, *shape), all in
    [-1, 1], as one image; `left` (*shape) says which values the measurement leaves open. None for volumes."""
    truth, measured, draws = truth[:ROWS], measured[:ROWS], draws[:ROWS]
    if spec.kind == "picture":
        spread = draws.std(1)
        parts = [truth, measured, *draws.unbind(1)[:DRAWS], draws.mean(1),
                 2 * spread / spread.max().clamp(min=1e-6) - 1]
        names = ["truth", "measured", *[f"draw {place + 1}" for place in range(DRAWS)], "mean", "spread"]
        return captioned(spec, torch.stack(parts, 1).flatten(0, 1).clamp(-1, 1), len(parts), names * len(truth))
    return None if len(spec.shape) > 2 else _banded(
        spec.decode(truth), spec.decode(measured), spec.decode(draws.flatten(0, 1)).reshape(draws.shape), left.numpy())


def _banded(truth: np.ndarray, measured: np.ndarray, draws: np.ndarray, left: np.ndarray) -> Image:
    """Traces (B, C, L) in bands of 50 and 90 %, or vectors (B, D) with bars of them, each in axes of its own."""
    traces = truth.ndim == 3
    truth, measured, draws, left = (
        part if traces else part[..., None, :] for part in (truth, measured, draws, left))
    channels, places = min(truth.shape[1], CHANNELS), np.arange(truth.shape[2])
    across = channels if channels > 1 else ACROSS
    high = -(-len(truth) * channels // across)
    figure = canvas(3.2 * across, 1.7 * high + 0.5)
    ends = np.percentile(draws, TAILS, axis=1)  # (bands, 2, B, C, L)
    for number, axes in enumerate(figure.subplots(high, across, squeeze=False).flat):
        row, channel = divmod(number, channels)
        if row >= len(truth):
            axes.set_axis_off()
            continue
        for (low, top), alpha, wide in zip(ends[:, :, row, channel], (0.2, 0.4), (3, 6), strict=True):
            if traces:
                axes.fill_between(places, low, top, color=COLOURS[0], alpha=alpha, lw=0)
            else:
                axes.vlines(places, low, top, color=COLOURS[0], alpha=alpha, lw=wide)
        middle = draws[row, :, channel].mean(0)
        axes.plot(places, middle, *(() if traces else ("_",)), color=COLOURS[0], lw=1, label="mean of the draws")
        known = ~left[channel]
        axes.plot(places, truth[row, channel], "-" if traces else "o", color=COLOURS[1], lw=1, ms=3, label="truth")
        if known.any():
            axes.plot(places[known], measured[row, channel, known], "o", color=COLOURS[7], ms=2.5, label="measured")
        plain(axes, f"channel {channel}" if channels > 1 and row == 0 else "", size=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=8,
                  frameon=False)
    return rendered(figure)
