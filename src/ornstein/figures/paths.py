"""Every sampler's way back, side by side, from the same noise and with the same budget of network calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ornstein.diffusion.samplers import samplers
from ornstein.figures.arrays import COLOURS, canvas
from ornstein.figures.plane import CLEAN, background, density, frame_of, shown, start, walk
from ornstein.figures.strip import show
from ornstein.figures.subject import Subject, drawable, scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["paths"]

CALLS = 12
COLUMNS = 7
ACROSS = 5


def paths(of: Subject, names: Sequence[str] = ()) -> Figure:
    """What samplers, all unless named, make of the same noise in 12 network calls: paths of points, or rows of latents.
    """
    drawable(of)
    chosen = list(names or samplers())
    return _of_points(of, chosen) if of.plane else _of_pictures(of, chosen)


def _of_points(of: Subject, names: list[str]) -> Figure:
    rows = -(-len(names) // ACROSS)
    figure = canvas(2.6 * ACROSS, 2.75 * rows)
    grid = list(figure.subplots(rows, ACROSS, squeeze=False).flat)
    z, many, clean = start(of, 20), start(of, 400), density(of, CLEAN)
    for axes, name in zip(grid, names, strict=False):
        background(axes, clean)
        ends = shown(of, walk(of, many, name, nfe=CALLS)[-1])
        axes.plot(*ends.T, ".", ms=3, mew=0, color="black", alpha=0.7, zorder=4)
        frames = walk(of, z, name, nfe=CALLS)
        lines = np.stack([shown(of, frame) for frame in frames])
        for number in range(5 if samplers()[name]["stochastic"] else len(z)):
            axes.plot(*lines[:, number].T, ".-", ms=3, lw=0.9, color=COLOURS[number % len(COLOURS)])
        frame_of(axes, f"{name}: {len(frames) - 1} steps")
    for axes in grid[len(names):]:
        axes.set_axis_off()
    return figure


def _of_pictures(of: Subject, names: list[str]) -> Figure:
    figure = canvas(1.15 * COLUMNS + 1, 1.2 * len(names) + 0.4)
    z = start(of, 1)
    for row, name in zip(figure.subplots(len(names), COLUMNS, squeeze=False), names, strict=True):
        frames = walk(of, z, name, nfe=CALLS)
        for column, axes in enumerate(row):
            frame = frames[round(column * (len(frames) - 1) / (COLUMNS - 1))]
            show(axes, of.spec, (frame.latent / scale(of.denoiser.schedule, frame.time)).cpu())
            axes.set_title(f"t = {frame.time:.2f}", fontsize=8, pad=2)
        row[0].set_ylabel(name, fontsize=9)
    return figure
