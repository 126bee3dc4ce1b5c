"""Figure of section 20.4: samples from the same noise at several scales of guidance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ornstein.diffusion.samplers import sample
from ornstein.figures.arrays import COLOURS, new_figure
from ornstein.figures.plane import CLEAN, density, draw_background, frame_axes, start_noise
from ornstein.figures.strip import show_moment
from ornstein.figures.subject import Subject, check_drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["guidance"]

SCALES = (0.0, 1.0, 2.0, 4.0)
CALLS = 40  # of the network; a guided call counts twice
CLOUD, COLUMNS = 400, 10


def guidance(subject: Subject) -> Figure:
    """Samples of one class at four scales of guidance: points over the density of all classes, or rows of pictures."""
    if subject.condition is None:
        raise ValueError("this figure shows guidance towards a class, but this model has no classes")
    check_drawable(subject)
    label = int(torch.as_tensor(subject.condition).flatten()[0])
    z = start_noise(subject, CLOUD if subject.plane else COLUMNS)
    samples = {scale: sample(subject.denoiser, z=z, condition=label, guidance=scale, nfe=CALLS, seed=subject.seed)
               for scale in SCALES}
    if subject.plane:
        figure, shades = new_figure(13, 3.75), density(replace(subject, condition=None), CLEAN)
        for axes, (scale, x) in zip(figure.subplots(1, len(SCALES)), samples.items(), strict=True):
            draw_background(axes, shades)
            axes.plot(*x.cpu().numpy().T, ".", ms=4, mew=0, color=COLOURS[1], alpha=0.7)
            frame_axes(axes, f"scale {scale:g}")
        return figure
    figure = new_figure(1.15 * COLUMNS + 1, 1.15 * len(SCALES))
    for row, (scale, x) in zip(figure.subplots(len(SCALES), COLUMNS), samples.items(), strict=True):
        for axes, picture in zip(row, x.cpu().split(1), strict=True):
            show_moment(axes, subject.spec, picture)
        row[0].set_ylabel(f"scale {scale:g}", fontsize=9)
    return figure
