"""The chapter's figure of one sample: the forward chain, the reverse chain, and the schedule's curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ornstein.data import DataSpec
from ornstein.diffusion.encoder import Encoder
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers import generate
from ornstein.diffusion.schedule import Chain, Schedule
from ornstein.figures.arrays import COLOURS, middle_slice, new_figure, style_axes
from ornstein.figures.pictures import picture
from ornstein.figures.subject import Subject, check_drawable, display_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves", "moments", "show_moment", "strip"]

COLUMNS = 11
REACH = 1.8  # of the axes of noisy arrays: data lie in [-1, 1], noise has standard deviation 1
ENDS = (8.0, -6.0)  # log SNR of the first noisy and the last picture of a strip, where the schedule reaches them


def moments(schedule: Schedule, count: int = COLUMNS) -> list[float]:
    """Increasing times at evenly spaced log SNR, after 0 for clean data; the last is the noisiest of the strip."""
    first, last = min(float(schedule.log_snr(0.0)), ENDS[0]), max(float(schedule.log_snr(1.0)), ENDS[1])
    return [0.0, *schedule.time(torch.linspace(first, last, count - 1, dtype=torch.float64)).tolist()]


def curves(schedule: Schedule) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Signal, noise, log SNR and beta against time, each (times, values); beta is that of each step, or the rate.

    The rate is the variance added per unit of t, g^2 of `Schedule.rates`.
    """
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    level, inner = schedule.level(t), t[2:-2]
    lines = {"signal": (t, level.signal), "noise": (t, level.noise), "log SNR": (inner, schedule.log_snr(inner))}
    if isinstance(schedule, Chain):
        lines["beta of a step"] = (torch.arange(1, schedule.T + 1) / schedule.T, schedule.beta)
    else:
        lines["beta(t)"] = (inner, schedule.rates(inner)[1])
    return {name: (x.numpy(), y.numpy()) for name, (x, y) in lines.items()}


def strip(subject: Subject) -> Figure:
    """The strip of a sample: a picture, a trace, the middle slice of a volume, or a cloud of points.

    Row 1 is a path of the encoder (20.3). Row 2 is the sampler's path back from its end; row 3 is the denoiser's
    estimate of the clean picture at each of its moments. The curves are below.
    """
    check_drawable(subject, "a strip")
    model, x = subject.denoiser, subject.x
    times = moments(model.schedule)
    ends = [] if times[-1] == 1 else [1.0]
    forward = list(Encoder(model.schedule).walk(x, times, subject.seed))
    # The last latent is taken for pure noise, so that the reverse path starts where the forward one ended.
    last = model.schedule.level(as_time(times[-1])).radius
    z = forward[-1] * (model.schedule.level(as_time(1.0)).radius / last).to(x)
    # The sampler uses the same times, and one between each two of them.
    fine = moments(model.schedule, 2 * COLUMNS - 2)
    frames = list(generate(model, z=z, condition=subject.condition, times=[*ends, *reversed(fine)],
                           seed=subject.seed))
    back = [min(frames, key=lambda frame, at=time: abs(frame.time - at)) for time in reversed(times)]
    return _figure(subject, times, forward, back)


def _figure(subject: Subject, times: list[float], forward: list[Tensor], back: list) -> Figure:
    schedule, lines = subject.denoiser.schedule, curves(subject.denoiser.schedule)
    figure = new_figure(13, 7.6)
    (top,), (bottom,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.75, 1])
    rows = top.subplots(3, len(times))
    named = [("forward: $q(z_t\\,|\\,z_s)$", forward[:len(times)], times),
             ("back: $z_t$", [frame.latent for frame in back], [frame.time for frame in back]),
             ("back: estimate of $x$", [frame.estimate.x if frame.time else frame.latent for frame in back], None)]
    reach = min(1.15 * max(float(z.abs().max()) for z in named[2][1]), REACH)
    for row, (name, pictures, clock) in zip(rows, named, strict=True):
        for number, (axes, z) in enumerate(zip(row, pictures, strict=True)):
            # A latent of large noise is shown at the scale of the data.
            divisor = 1.0 if clock is None else display_scale(schedule, clock[number])
            show_moment(axes, subject.spec, (z / divisor).cpu(), REACH if clock is not None else reach)
            if clock is not None:
                axes.set_title(f"t = {clock[number]:.2f}\n{_log_snr(schedule, clock[number])}", fontsize=8)
        row[0].set_ylabel(name, fontsize=9)
    top.suptitle(f"{type(schedule).__name__}: from {subject.what} to noise, and from it to a new one "
                 f"(seed {subject.seed})", fontsize=12)
    for axes, (name, (x, y)) in zip(bottom.subplots(1, len(lines)), lines.items(), strict=True):
        axes.plot(x, y, color="#26466b")
        style_axes(axes, name, "t", size=9)
        if name.startswith("beta") and y.max() > 100 * np.median(y):
            axes.set_yscale("log")
    return figure


def show_moment(axes: Any, spec: DataSpec | None, z: Tensor, reach: float = REACH) -> None:
    """Draw one moment (B, *shape) of a strip; fields are coloured from -1 to 1, the range of the data, and traces go to
    +-reach."""
    if spec is not None and spec.kind == "picture":
        axes.imshow(picture(spec, z)[0], interpolation="nearest")
    elif z.ndim == 2:
        axes.plot(*z.numpy().T, ".", ms=1.6, mew=0, color=COLOURS[0])
        axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    elif z.ndim == 3:
        for number, channel in enumerate(z[0].numpy()):
            axes.plot(channel, lw=0.7, color=COLOURS[number % len(COLOURS)])
        axes.set_ylim(-reach, reach)
    else:
        axes.imshow(middle_slice(z.numpy())[0, 0], vmin=-1, vmax=1, cmap="viridis", interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _log_snr(schedule: Schedule, time: float) -> str:
    value = float(schedule.log_snr(time))
    return f"log SNR {value:.1f}" if np.isfinite(value) else ("data" if value > 0 else "noise")
