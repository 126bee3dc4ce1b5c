"""Figures of section 20.1 on the forward process: noising, the chain as a graph, schedules, kernel and posterior."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.distributions import Normal

from ornstein import noise
from ornstein.diffusion.encoder import Encoder, draw, transition
from ornstein.diffusion.grid import grid
from ornstein.diffusion.level import as_time
from ornstein.diffusion.schedule import SCHEDULES, Chain, Schedule
from ornstein.figures.arrays import COLOURS, new_figure, style_axes
from ornstein.figures.strip import moments, show_moment
from ornstein.figures.subject import Subject, display_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["graph", "kernel", "noising", "posterior", "schedules", "value"]

CHAINS = 10_000
STRIDES = 20  # steps in the posterior's figure; a thousand could not be told apart


def value(subject: Subject) -> float:
    """The number of the sample to follow: the brightest pixel of a picture, else the first value."""
    first = subject.x[0].double().flatten()
    return float(first.max() if subject.spec is not None and subject.spec.kind == "picture" else first[0])


def noising(subject: Subject) -> Figure:
    """A sample at eight moments, each drawn from its kernel q(z_t | x) with the same total noise (20.8)."""
    schedule = subject.denoiser.schedule
    times = grid(schedule, 7, "angle").flip(0).tolist()
    eps = noise.per_sample(subject.seed, "walk", range(len(subject.x)), 0, subject.x)
    figure = new_figure(12, 2.1)
    for axes, time in zip(figure.subplots(1, len(times)), times, strict=True):
        level = schedule.level(as_time(time))
        z = draw(Encoder(schedule).kernel(subject.x, time), eps) / display_scale(schedule, time)
        show_moment(axes, subject.spec, z)
        axes.set_title(f"step {round(time * schedule.T)}" if isinstance(schedule, Chain) else f"t = {time:.2f}",
                       fontsize=10)
        axes.set_xlabel(f"signal {float(level.signal):.2f}\nnoise {float(level.noise):.2f}", fontsize=9)
    return figure


def graph(subject: Subject) -> Figure:
    """The chain as a graphical model: the encoder's arrows are fixed, the decoder's, dashed, are learned."""
    from matplotlib.patches import Circle

    figure = new_figure(12, 3.9)
    axes = figure.subplots()
    schedule, encoder = subject.denoiser.schedule, Encoder(subject.denoiser.schedule)
    times = moments(schedule, 5)
    path = list(encoder.walk(subject.x, times, subject.seed))
    where = [0.0, 2.6, 5.8, 8.4, 11.6]
    names = [r"$\mathbf{x}$", r"$\mathbf{z}_1$", r"$\mathbf{z}_{t-1}$", r"$\mathbf{z}_t$", r"$\mathbf{z}_T$"]
    axes.set(xlim=(-0.9, 12.5), ylim=(-2.95, 1.3), aspect="equal")
    axes.set_axis_off()
    for number, (x, name) in enumerate(zip(where, names, strict=True)):
        # What is observed is shaded, as graphical models have it.
        axes.add_patch(Circle((x, 0), 0.5, facecolor="#cfd8e3" if number == 0 else "white", edgecolor="black", lw=1.4))
        axes.text(x, 0, name, ha="center", va="center", fontsize=17)
        inner = axes.inset_axes((x - 0.75, -2.9, 1.5, 1.5), transform=axes.transData)
        show_moment(inner, subject.spec, path[number] / display_scale(schedule, times[number]))
    encoded = [r"$q(\mathbf{z}_1|\mathbf{x})$", "", r"$q(\mathbf{z}_t|\mathbf{z}_{t-1})$", ""]
    decoded = [r"$p(\mathbf{x}|\mathbf{z}_1,\mathbf{w})$", "", r"$p(\mathbf{z}_{t-1}|\mathbf{z}_t,\mathbf{w})$", ""]
    for number, (left, right) in enumerate(pairwise(where)):
        middle = (left + right) / 2
        _arrow(axes, left, right, "-", COLOURS[0])
        _arrow(axes, right, left, "--", COLOURS[1])
        if encoded[number]:
            axes.text(middle, 0.85, encoded[number], ha="center", fontsize=14, color=COLOURS[0])
            axes.text(middle, -1.08, decoded[number], ha="center", fontsize=14, color=COLOURS[1])
        else:
            axes.text(middle, 0, "· · ·", ha="center", va="center", fontsize=16)
    return figure


def schedules(subject: Subject) -> Figure:
    """Signal, noise and log SNR of every schedule against time; the denoiser's is the thick line."""
    curves: dict[str, Schedule] = {name: kind.linear() if kind is Chain else kind() for name, kind in SCHEDULES.items()}
    own = subject.denoiser.schedule
    thick = next((name for name, schedule in curves.items() if type(schedule) is type(own) and _equal(schedule, own)),
                 None)
    if thick is None:
        thick = f"this model's {type(own).__name__}"
        curves[thick] = own
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    figure = new_figure(12, 3.6)
    panels = figure.subplots(1, 3)
    for number, (name, schedule) in enumerate(curves.items()):
        level, style = schedule.level(t), {"color": COLOURS[number % len(COLOURS)], "lw": 2.6 if name == thick else 1.3}
        panels[0].plot(t, level.signal, label=name, **style)
        panels[1].plot(t, level.noise, **style)
        panels[2].plot(t[1:-1], schedule.log_snr(t[1:-1]), **style)
    for axes, title in zip(panels, ("signal", "noise", "log SNR"), strict=True):
        style_axes(axes, title, "t")
    panels[1].set_ylim(-0.03, 1.3)  # an exploding schedule exceeds the axes
    panels[2].set_ylim(-16, 16)
    figure.legend(loc="outside lower center", ncols=len(curves), fontsize=10, frameon=False)
    return figure


def kernel(subject: Subject) -> Figure:
    """10,000 chains of one value, step by step (20.3), against the kernel q(z_t | x) in one formula (20.6)."""
    from matplotlib.colors import LogNorm

    schedule, x = subject.denoiser.schedule, value(subject)
    steps = schedule.T if isinstance(schedule, Chain) else 200
    last = max(moments(schedule))
    times = [last * number / steps for number in range(steps + 1)]
    # A sample of 10,000 equal values gives 10,000 chains.
    walk = Encoder(schedule).walk(torch.full((1, CHAINS), x, dtype=torch.float64), times, subject.seed)
    selected = dict.fromkeys(round(steps * share) for share in (0.02, 0.1, 0.3, 1.0))
    columns = [round(steps * share) for share in np.linspace(0, 1, 161)]
    values_at = {number: z[0].numpy() for number, z in enumerate(walk) if number in selected or number in set(columns)}
    level = schedule.level(torch.tensor(times, dtype=torch.float64))
    mean, std = (level.signal * x).numpy(), level.noise.numpy()
    limit = max(abs(x) + 0.5, 4 * float(std.max()))
    figure = new_figure(12, 4.2)
    panels: Any = figure.subfigures(1, 2, width_ratios=[1, 1.05])
    left, right = panels
    axes = left.subplots()
    bins = np.linspace(-limit, limit, 121)
    counts = np.stack([np.histogram(values_at[number], bins)[0] for number in columns], 1)
    axes.pcolormesh(np.linspace(0, last, len(columns)), (bins[1:] + bins[:-1]) / 2, np.maximum(counts, 0.5),
                    norm=LogNorm(vmin=0.5), cmap="Blues", shading="nearest", rasterized=True)
    axes.plot(times, mean, color=COLOURS[1], lw=1.6, label="mean of the kernel")
    for sign in (-2, 2):
        axes.plot(times, mean + sign * std, color=COLOURS[1], lw=1.2, ls="--",
                  label="2 deviations from it" if sign == 2 else None)
    axes.set(ylim=(-limit, limit), xlim=(0, last))
    axes.legend(loc="lower left", fontsize=9, frameon=False)
    style_axes(axes, f"{CHAINS:,} chains from the value {x:.3g}, {steps:,} steps each", "t")
    for panel, number in zip(right.subplots(2, 2, sharex=True).flat, selected, strict=True):
        panel.hist(values_at[number], bins=80, range=(-limit, limit), density=True, color="#9cb6d6")
        axis = np.linspace(-limit, limit, 1001)
        panel.plot(axis, Normal(mean[number], std[number]).log_prob(torch.from_numpy(axis)).exp(), color=COLOURS[1],
                   lw=1.6)
        panel.set_yticks([])
        style_axes(panel, f"t = {times[number]:.3g}", size=10)
    return figure


def posterior(subject: Subject) -> Figure:
    """q(z_s | z_t, x) of one value (20.15) along a path of twenty steps: wide near noise, narrow near data."""
    from matplotlib import colormaps

    schedule, x = subject.denoiser.schedule, value(subject)
    encoder, last = Encoder(schedule), max(moments(schedule))
    times = [last * number / STRIDES for number in range(STRIDES + 1)]
    clean = torch.full((1, 1), x, dtype=torch.float64)
    path = list(encoder.walk(clean, times, subject.seed))
    laws = [encoder.posterior(clean, path[n], times[n - 1], times[n]) for n in range(2, STRIDES + 1)]
    mean, std = (np.array([float(getattr(law, name)) for law in laws]) for name in ("mean", "stddev"))
    figure = new_figure(12, 4)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    # Each density stands on the line of its time, overlapping those behind it.
    for n in range(STRIDES - 2, -1, -1):
        axis = np.linspace(mean[n] - 4 * std[n], mean[n] + 4 * std[n], 201)
        height = np.exp(-0.5 * ((axis - mean[n]) / std[n]) ** 2) * 1.9 * last / STRIDES
        colour = colormaps["viridis"](n / STRIDES)
        left.fill_between(axis, times[n + 1], times[n + 1] + height, color=colour, alpha=0.55, lw=0, zorder=STRIDES - n)
        left.plot(axis, times[n + 1] + height, color=colour, lw=1, zorder=STRIDES - n)
    left.plot([float(z) for z in path], times, "o-", color="#444444", ms=3, lw=0.8, zorder=99, label=r"the path $z_t$")
    left.axvline(x, color=COLOURS[1], lw=1.2, label="$x$", zorder=98)
    style_axes(left, r"$q(z_s\,|\,z_t, x)$, one density a step", "value", "s")
    left.legend(fontsize=9, frameon=False, loc="upper right")
    added = [float(transition(schedule, times[n - 1], times[n])[3]) ** 0.5 for n in range(2, STRIDES + 1)]
    right.plot(times[2:], std, "o-", ms=3, color=COLOURS[0], label="deviation of the posterior")
    right.plot(times[2:], added, "o-", ms=3, color=COLOURS[1], label=r"deviation of the step, $\sqrt{\beta_t}$")
    right.plot(times[1:-1], [float(schedule.level(as_time(s)).noise) for s in times[1:-1]], color="#999999", ls="--",
               label="noise at s")
    right.legend(fontsize=9, frameon=False)
    style_axes(right, "never wider than the step or the noise at s", "t")
    return figure


def _arrow(axes: Any, start: float, end: float, style: str, colour: str) -> None:
    """Draw an arrow from one circle to another, above the line if it points forward and below it otherwise."""
    side = 1 if end > start else -1
    axes.annotate("", (end - side * 0.42, side * 0.3), (start + side * 0.42, side * 0.3),
                  arrowprops={"arrowstyle": "-|>", "linestyle": style, "color": colour, "lw": 1.6,
                              "mutation_scale": 16, "connectionstyle": "arc3,rad=-0.28"})


def _equal(a: Schedule, b: Schedule) -> bool:
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    return all(torch.allclose(x, y) for x, y in zip(a.level(t), b.level(t), strict=True))

