"""Figure of section 20.4: what guidance of several scales makes of the same noise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ornstein.diffusion.samplers import sample
from ornstein.figures.arrays import COLOURS, canvas
from ornstein.figures.plane import CLEAN, background, density, frame_of, start
from ornstein.figures.strip import show
from ornstein.figures.subject import Subject, drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["guidance"]

SCALES = (0.0, 1.0, 2.0, 4.0)
CALLS = 40  # of the network; a guided one counts twice
CLOUD, COLUMNS = 400, 10


def guidance(of: Subject) -> Figure:
    """Samples of one class at four scales of guidance: points over the density of all classes, or a row for each scale.
    """
    if of.condition is None:
        raise ValueError("this figure is of guidance towards a class, and this model has no classes")
    drawable(of)
    kind = int(torch.as_tensor(of.condition).flatten()[0])
    z = start(of, CLOUD if of.plane else COLUMNS)
    made = {scale: sample(of.denoiser, z=z, condition=kind, guidance=scale, nfe=CALLS, seed=of.seed)
            for scale in SCALES}
    if of.plane:
        figure, shades = canvas(13, 3.75), density(replace(of, condition=None), CLEAN)
        for axes, (scale, x) in zip(figure.subplots(1, len(SCALES)), made.items(), strict=True):
            background(axes, shades)
            axes.plot(*x.cpu().numpy().T, ".", ms=4, mew=0, color=COLOURS[1], alpha=0.7)
            frame_of(axes, f"scale {scale:g}")
        return figure
    figure = canvas(1.15 * COLUMNS + 1, 1.15 * len(SCALES))
    for row, (scale, x) in zip(figure.subplots(len(SCALES), COLUMNS), made.items(), strict=True):
        for axes, one in zip(row, x.cpu().split(1), strict=True):
            show(axes, of.spec, one)
        row[0].set_ylabel(f"scale {scale:g}", fontsize=9)
    return figure
