"""Figures of sections 20.1 and 20.2 on the reverse process: the reverse conditional, and the bound by steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ornstein.diffusion.encoder import Encoder, transition
from ornstein.diffusion.level import as_time
from ornstein.diffusion.likelihood import bound_times, elbo
from ornstein.figures.arrays import COLOURS, new_figure, style_axes
from ornstein.figures.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bound", "mixture", "reverse", "uncertain_latent"]

STRIDES = (0.95, 0.5, 0.05)  # lengths of the three steps of `reverse`, as shares of t
STEPS = 64


def training_numbers(subject: Subject) -> Tensor:
    """A training set of numbers (N, 1): the values of a sample, or the first coordinates of points."""
    return (subject.x[:, :1] if subject.plane else subject.x[0].reshape(-1, 1)).double()


def uncertain_latent(subject: Subject, data: Tensor) -> tuple[float, float]:
    """A time at which noise and data have similar spreads, and the latent there whose origin is least certain."""
    schedule = subject.denoiser.schedule
    # Twice the log of 1 / ratio is the log SNR at which noise = ratio * signal.
    time = float(schedule.time(-2 * torch.log(0.9 * data.std().clamp(min=1e-3))))
    signal = float(schedule.level(as_time(time)).signal)
    grid = torch.linspace(float(data.min()), float(data.max()), 201, dtype=torch.float64) * signal
    log = torch.stack([Encoder(schedule).kernel(data, time).log_prob(z.expand_as(data)) for z in grid])
    share = log.softmax(1)
    spread = share @ data[:, 0] ** 2 - (share @ data[:, 0]) ** 2
    return time, float(grid[spread.argmax()])


def mixture(subject: Subject, data: Tensor, z: float, s: float, t: float) -> tuple[Tensor, Tensor, float]:
    """q(z_s | z_t) over a training set of numbers (20.11), (20.12): weights (N,), means (N,) and one deviation."""
    encoder, latent = Encoder(subject.denoiser.schedule), torch.full_like(data, z)
    posterior = encoder.posterior(data, latent, s, t)
    return encoder.kernel(data, t).log_prob(latent).softmax(0), posterior.mean[:, 0], float(posterior.stddev[0])


def reverse(subject: Subject) -> Figure:
    """q(z_s | z_t) for three step lengths, with the Gaussian of the same mean and variance.

    Over a training set it is a mixture of one Gaussian for each point. For a short step their means are so close that
    one Gaussian fits; for a long one they are not, which is why beta must be small.
    """
    data = training_numbers(subject)
    time, z = uncertain_latent(subject, data)
    figure = new_figure(12, 3.6)
    for axes, stride in zip(figure.subplots(1, 3), STRIDES, strict=True):
        s = time * (1 - stride)
        weight, mean, std = mixture(subject, data, z, s, time)
        centre = float(weight @ mean)
        std_total = float((weight @ (mean - centre) ** 2 + std**2).sqrt())
        half_range = max(4 * std_total, float((mean - centre).abs().max()) + 3 * std)
        grid = torch.linspace(centre - half_range, centre + half_range, 2001, dtype=torch.float64)
        mixture_density = torch.zeros_like(grid)
        for share, position in zip(weight, mean, strict=True):
            mixture_density += share * torch.exp(-0.5 * ((grid - position) / std) ** 2) / (std * (2 * np.pi) ** 0.5)
        gaussian_density = torch.exp(-0.5 * ((grid - centre) / std_total) ** 2) / (std_total * (2 * np.pi) ** 0.5)
        log_ratio = (mixture_density.clamp(min=1e-300) / gaussian_density).log()
        divergence = float(torch.trapezoid(
            torch.where(mixture_density > 0, mixture_density * log_ratio, 0), grid))
        axes.fill_between(grid, mixture_density, color="#9cb6d6", label=r"$q(z_s\,|\,z_t)$, a mixture")
        axes.plot(grid, gaussian_density, color=COLOURS[1], lw=1.8, label="one Gaussian")
        added = float(transition(subject.denoiser.schedule, s, time)[3])
        axes.set_yticks([])
        axes.set_ylim(bottom=0)
        style_axes(axes, f"from t = {time:.2f} to s = {s:.2f}, variance added {added:.2g}\n"
                         f"divergence of the two {max(divergence, 0):.2g} nats", "$z_s$", size=10)
    figure.axes[0].legend(fontsize=9, frameon=False, loc="upper left")
    figure.axes[0].set_ylim(top=figure.axes[0].get_ylim()[1] * 1.25)
    return figure


def bound(subject: Subject) -> Figure:
    """The evidence lower bound of the sample, step by step, and its three terms."""
    schedule, levels = subject.denoiser.schedule, subject.spec.bins if subject.spec is not None else None
    x = subject.x
    if levels is not None:  # samples of a model lie between the levels of its data
        x = (((x + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1).clamp(-1, 1)
    bounds = elbo(subject.denoiser, x, bound_times(schedule, STEPS, levels), levels, draws=4, seed=subject.seed,
                  condition=subject.condition)
    steps, names = bounds.steps.mean(0), ("reconstruction", "prior", "diffusion", "log_prob")
    terms = {name: float(getattr(bounds, name).mean()) for name in names}
    figure = new_figure(12, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    log_snr = bounds.log_snr.numpy()
    left.bar(log_snr, steps.numpy(), width=0.8 * abs(float(np.diff(log_snr).mean())), color=COLOURS[0])
    left.invert_xaxis()
    style_axes(left, f"divergence of each step, of {subject.what}",
               "log SNR of the step's noisier end: data left, noise right", "nats")
    labels = ("reconstruction", "diffusion", "prior", "bound on log p")
    bars = (terms["reconstruction"], -terms["diffusion"], -terms["prior"], terms["log_prob"])
    start = (0.0, bars[0], bars[0] + bars[1], 0.0)
    right.bar(range(4), bars, bottom=start, color=[COLOURS[2], COLOURS[0], COLOURS[7], COLOURS[1]], width=0.6)
    low, high = (end(min(a, a + b) if end is min else max(a, a + b) for a, b in zip(start, bars, strict=True))
                 for end in (min, max))
    margin = 0.09 * (high - low or 1)
    for index, (base, size) in enumerate(zip(start, bars, strict=True)):
        right.text(index, max(base, base + size) + margin / 5, f"{size:.3g}", ha="center", fontsize=9)
    right.axhline(0, color="#999999", lw=0.8)
    right.set_ylim(low - margin, high + margin)
    right.set_xticks(range(4), labels, fontsize=9)
    style_axes(right, f"the bound{'' if levels is None else f', of data on {levels} levels'}, in nats")
    right.tick_params(axis="x", labelsize=9)
    return figure
