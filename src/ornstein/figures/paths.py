"""The paths of all samplers side by side, from the same noise and with the same budget of network calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ornstein.diffusion.samplers import samplers
from ornstein.figures.arrays import COLOURS, new_figure
from ornstein.figures.plane import CLEAN, density, draw_background, frame_axes, points, start_noise, walk
from ornstein.figures.strip import show_moment
from ornstein.figures.subject import Subject, check_drawable, display_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["paths"]

CALLS = 12
COLUMNS = 7
ACROSS = 5


def paths(subject: Subject, names: Sequence[str] = ()) -> Figure:
    """The paths of samplers, by default all, from the same noise in 12 network calls: lines of points, or rows of
    latents."""
    check_drawable(subject)
    chosen = list(names or samplers())
    return _draw_points(subject, chosen) if subject.plane else _draw_pictures(subject, chosen)


def _draw_points(subject: Subject, names: list[str]) -> Figure:
    rows = -(-len(names) // ACROSS)
    figure = new_figure(2.6 * ACROSS, 2.75 * rows)
    grid = list(figure.subplots(rows, ACROSS, squeeze=False).flat)
    z, cloud, clean = start_noise(subject, 20), start_noise(subject, 400), density(subject, CLEAN)
    for axes, name in zip(grid, names, strict=False):
        draw_background(axes, clean)
        ends = points(subject, walk(subject, cloud, name, nfe=CALLS)[-1])
        axes.plot(*ends.T, ".", ms=3, mew=0, color="black", alpha=0.7, zorder=4)
        frames = walk(subject, z, name, nfe=CALLS)
        lines = np.stack([points(subject, frame) for frame in frames])
        for number in range(5 if samplers()[name]["stochastic"] else len(z)):
            axes.plot(*lines[:, number].T, ".-", ms=3, lw=0.9, color=COLOURS[number % len(COLOURS)])
        frame_axes(axes, f"{name}: {len(frames) - 1} steps")
    for axes in grid[len(names):]:
        axes.set_axis_off()
    return figure


def _draw_pictures(subject: Subject, names: list[str]) -> Figure:
    figure = new_figure(1.15 * COLUMNS + 1, 1.2 * len(names) + 0.4)
    z = start_noise(subject, 1)
    for row, name in zip(figure.subplots(len(names), COLUMNS, squeeze=False), names, strict=True):
        frames = walk(subject, z, name, nfe=CALLS)
        for column, axes in enumerate(row):
            frame = frames[round(column * (len(frames) - 1) / (COLUMNS - 1))]
            show_moment(axes, subject.spec, (frame.latent / display_scale(subject.denoiser.schedule, frame.time)).cpu())
            axes.set_title(f"t = {frame.time:.2f}", fontsize=8, pad=2)
        row[0].set_ylabel(name, fontsize=9)
    return figure
