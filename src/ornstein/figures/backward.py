"""Figures of sections 20.1 and 20.2, the way back: the reverse conditional as a mixture, and the bound by steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ornstein.diffusion.encoder import Encoder, transition
from ornstein.diffusion.level import as_time
from ornstein.diffusion.likelihood import bound_times, elbo
from ornstein.figures.arrays import COLOURS, canvas, plain
from ornstein.figures.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bound", "crossing", "mixture", "reverse"]

STRIDES = (0.95, 0.5, 0.05)  # of t: how far the three steps of `reverse` go back
STEPS = 64


def values(of: Subject) -> Tensor:
    """The numbers of a sample as a training set of numbers: of points the first coordinate of each, (N, 1)."""
    return (of.x[:, :1] if of.plane else of.x[0].reshape(-1, 1)).double()


def crossing(of: Subject, data: Tensor) -> tuple[float, float]:
    """A time at which noise is as wide as the data, and the latent there that says least of where it came from."""
    schedule = of.denoiser.schedule
    # Twice the log of 1 / ratio is the log SNR at which noise = ratio * signal.
    time = float(schedule.time(-2 * torch.log(0.9 * data.std().clamp(min=1e-3))))
    signal = float(schedule.level(as_time(time)).signal)
    grid = torch.linspace(float(data.min()), float(data.max()), 201, dtype=torch.float64) * signal
    log = torch.stack([Encoder(schedule).kernel(data, time).log_prob(z.expand_as(data)) for z in grid])
    share = log.softmax(1)
    spread = share @ data[:, 0] ** 2 - (share @ data[:, 0]) ** 2
    return time, float(grid[spread.argmax()])


def mixture(of: Subject, data: Tensor, z: float, s: float, t: float) -> tuple[Tensor, Tensor, float]:
    """q(z_s | z_t) over a training set of numbers (20.11), (20.12): weights (N,), means (N,) and one deviation."""
    encoder, latent = Encoder(of.denoiser.schedule), torch.full_like(data, z)
    law = encoder.posterior(data, latent, s, t)
    return encoder.kernel(data, t).log_prob(latent).softmax(0), law.mean[:, 0], float(law.stddev[0])


def reverse(of: Subject) -> Figure:
    """q(z_s | z_t) for three lengths of step, beside the Gaussian of the same mean and variance.

    Over a training set it is a mixture with one Gaussian a point. A short step leaves so little room between their
    means that one Gaussian fits; a long one does not: this is why beta must be small.
    """
    data = values(of)
    time, z = crossing(of, data)
    figure = canvas(12, 3.6)
    for axes, stride in zip(figure.subplots(1, 3), STRIDES, strict=True):
        s = time * (1 - stride)
        weight, mean, std = mixture(of, data, z, s, time)
        centre = float(weight @ mean)
        wide = float((weight @ (mean - centre) ** 2 + std**2).sqrt())
        reach = max(4 * wide, float((mean - centre).abs().max()) + 3 * std)
        grid = torch.linspace(centre - reach, centre + reach, 2001, dtype=torch.float64)
        true = torch.zeros_like(grid)
        for share, place in zip(weight, mean, strict=True):
            true += share * torch.exp(-0.5 * ((grid - place) / std) ** 2) / (std * (2 * np.pi) ** 0.5)
        single = torch.exp(-0.5 * ((grid - centre) / wide) ** 2) / (wide * (2 * np.pi) ** 0.5)
        apart = float(torch.trapezoid(torch.where(true > 0, true * (true.clamp(min=1e-300) / single).log(), 0), grid))
        axes.fill_between(grid, true, color="#9cb6d6", label=r"$q(z_s\,|\,z_t)$, a mixture")
        axes.plot(grid, single, color=COLOURS[1], lw=1.8, label="one Gaussian")
        added = float(transition(of.denoiser.schedule, s, time)[3])
        axes.set_yticks([])
        axes.set_ylim(bottom=0)
        plain(axes, f"from t = {time:.2f} to s = {s:.2f}, variance added {added:.2g}\n"
                    f"divergence of the two {max(apart, 0):.2g} nats", "$z_s$", size=10)
    figure.axes[0].legend(fontsize=9, frameon=False, loc="upper left")
    figure.axes[0].set_ylim(top=figure.axes[0].get_ylim()[1] * 1.25)
    return figure


def bound(of: Subject) -> Figure:
    """The evidence lower bound of the sample, step by step, and its three terms."""
    schedule, levels = of.denoiser.schedule, of.spec.bins if of.spec is not None else None
    x = of.x
    if levels is not None:  # what a model draws lies between the levels of its data
        x = (((x + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1).clamp(-1, 1)
    bounds = elbo(of.denoiser, x, bound_times(schedule, STEPS, levels), levels, draws=4, seed=of.seed,
                 condition=of.condition)
    steps, names = bounds.steps.mean(0), ("reconstruction", "prior", "diffusion", "log_prob")
    terms = {name: float(getattr(bounds, name).mean()) for name in names}
    figure = canvas(12, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    # `log_snr` is of the noisier end of each step.
    where = bounds.log_snr.numpy()
    left.bar(where, steps.numpy(), width=0.8 * abs(float(np.diff(where).mean())), color=COLOURS[0])
    left.invert_xaxis()
    plain(left, f"divergence of each step, of {of.what}", "log SNR of the step's noisier end: data left, noise right",
          "nats")
    words = ("reconstruction", "diffusion", "prior", "bound on log p")
    bars = (terms["reconstruction"], -terms["diffusion"], -terms["prior"], terms["log_prob"])
    start = (0.0, bars[0], bars[0] + bars[1], 0.0)
    right.bar(range(4), bars, bottom=start, color=[COLOURS[2], COLOURS[0], COLOURS[7], COLOURS[1]], width=0.6)
    low, high = (end(min(a, a + b) if end is min else max(a, a + b) for a, b in zip(start, bars, strict=True))
                 for end in (min, max))
    room = 0.09 * (high - low or 1)
    for place, (base, size) in enumerate(zip(start, bars, strict=True)):
        right.text(place, max(base, base + size) + room / 5, f"{size:.3g}", ha="center", fontsize=9)
    right.axhline(0, color="#999999", lw=0.8)
    right.set_ylim(low - room, high + room)
    right.set_xticks(range(4), words, fontsize=9)
    plain(right, f"the bound{'' if levels is None else f', of data on {levels} levels'}, in nats")
    right.tick_params(axis="x", labelsize=9)
    return figure
