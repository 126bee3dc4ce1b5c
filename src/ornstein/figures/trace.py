"""The chapter's figures on one sample: the forward chain, the way back, and the schedule's curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.data import DataSpec, read_picture
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.encoder import Encoder
from ornstein.diffusion.samplers import generate, sample
from ornstein.diffusion.schedule import Chain, Schedule, as_time
from ornstein.figures.arrays import COLOURS, field
from ornstein.figures.pictures import cycle, picture

__all__ = ["curves", "draw", "moments"]

COLUMNS = 11
POINTS = 600  # points of the plane that walk together: one alone shows nothing
REACH = 1.8  # how far the axes of noisy arrays go: noise of deviation 1 beside data in [-1, 1]
ENDS = (8.0, -6.0)  # log SNR of the first noisy and the last picture of a strip, where the schedule reaches them


def moments(schedule: Schedule, count: int = COLUMNS) -> list[float]:
    """Times at evenly spaced log SNR, rising, with clean data before them; the last is as noisy as the strip shows."""
    first, last = min(float(schedule.log_snr(0.0)), ENDS[0]), max(float(schedule.log_snr(1.0)), ENDS[1])
    return [0.0, *schedule.time(torch.linspace(first, last, count - 1, dtype=torch.float64)).tolist()]


def curves(schedule: Schedule) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Signal, noise, log SNR and beta against time, each (times, values); beta a step of the chain, or its rate.

    A rate is of the variance added per unit of t, g^2 of `Schedule.rates`.
    """
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    level, inner = schedule.level(t), t[2:-2]
    lines = {"signal": (t, level.signal), "noise": (t, level.noise), "log SNR": (inner, schedule.log_snr(inner))}
    if isinstance(schedule, Chain):
        lines["beta of a step"] = (torch.arange(1, schedule.T + 1) / schedule.T, schedule.beta)
    else:
        lines["beta(t)"] = (inner, schedule.rates(inner)[1])
    return {name: (x.numpy(), y.numpy()) for name, (x, y) in lines.items()}


def draw(model: NetworkDenoiser, out: Path, image: Path | None = None, label: str | None = None,
         seed: int = 0) -> None:
    """Draw the strip of a model into a PNG: of pictures, traces, the middle slice of volumes, or a cloud of points.

    Row 1 is one path of the encoder (20.3). Row 2 walks back from the end of that path by the
    sampler; row 3 is what the denoiser believes the clean picture to be at each moment of it. Below, the curves.

    Args:
        model: trained on any data but vectors of other than two values.
        out: file to write.
        image: a picture file; what the model draws without it.
        label: class to come back as, by name or index; the first class without it, for points all in turn.
        seed: of the noise.

    Raises:
        ValueError: a model of data that no strip shows, an unknown label, or a file that is no picture.
    """
    spec = model.data
    if spec is None or (len(spec.shape) == 1 and spec.shape != (2,)):
        raise ValueError(f"trace draws pictures, traces, volumes and points of the plane; this model was trained on "
                         f"{'other data' if spec is None else f'vectors of {spec.shape[0]} values'}")
    if image is not None and spec.kind != "picture":
        raise ValueError(f"image is {image}, but this model was trained on arrays of shape {spec.shape}; leave it out")
    condition = None
    if spec.classes and label is None and spec.shape == (2,):
        condition = cycle(model, POINTS)
    elif spec.classes:
        condition = torch.tensor([spec.label(label) if label is not None else 0])
    elif label is not None:
        raise ValueError(f"label is {label!r}, but this model has no classes; leave it out")
    if image is None:
        x = sample(model, POINTS if spec.shape == (2,) else 1, condition=condition, seed=seed)
    else:
        x = torch.tensor(read_picture(image, spec.shape)).float()[None] / 127.5 - 1
    times = moments(model.schedule)
    ends = [] if times[-1] == 1 else [1.0]
    forward = list(Encoder(model.schedule).walk(x, times, seed))
    # The last latent, all but noise, is taken for noise: the way back starts where the way forward ended.
    last = model.schedule.level(as_time(times[-1])).radius
    z = forward[-1] * (model.schedule.level(as_time(1.0)).radius / last).to(x)
    # The sampler stops at the same moments, and once between each two of them.
    fine = moments(model.schedule, 2 * COLUMNS - 2)
    frames = list(generate(model, z=z, condition=condition, times=[*ends, *reversed(fine)], seed=seed))
    back = [min(frames, key=lambda frame, at=time: abs(frame.time - at)) for time in reversed(times)]
    _figure(model.schedule, spec, times, forward, back, out, image, seed)


def _figure(schedule: Schedule, spec: DataSpec, times: list[float], forward: list[Tensor], back: list, out: Path,
            image: Path | None, seed: int) -> None:
    from matplotlib.figure import Figure

    lines = curves(schedule)
    figure = Figure(figsize=(13, 7.6), layout="constrained")
    (top,), (bottom,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.75, 1])
    rows = top.subplots(3, len(times))
    named = [("forward: $q(z_t\\,|\\,z_s)$", forward[:len(times)], times),
             ("back: $z_t$", [frame.latent for frame in back], [frame.time for frame in back]),
             ("back: estimate of $x$", [frame.estimate.x if frame.time else frame.latent for frame in back], None)]
    reach = min(1.15 * max(float(z.abs().max()) for z in named[2][1]), REACH)
    for row, (name, pictures, clock) in zip(rows, named, strict=True):
        for number, (axes, z) in enumerate(zip(row, pictures, strict=True)):
            # A latent of large noise is shown at the scale of the data.
            scale = 1.0 if clock is None else max(float(schedule.level(as_time(clock[number])).radius), 1.0)
            _show(axes, spec, (z / scale).cpu(), REACH if clock is not None else reach)
            axes.set(xticks=[], yticks=[])
            if clock is not None:
                axes.set_title(f"t = {clock[number]:.2f}\n{_log_snr(schedule, clock[number])}", fontsize=8)
        row[0].set_ylabel(name, fontsize=9)
    drawn = f"{POINTS} samples" if spec.shape == (2,) else "a sample"
    what = f"{drawn} of the model" if image is None else image.name
    top.suptitle(f"{type(schedule).__name__}: from {what} to noise and back (seed {seed})", fontsize=12)
    for axes, (name, (x, y)) in zip(bottom.subplots(1, len(lines)), lines.items(), strict=True):
        axes.plot(x, y, color="#26466b")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("t", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if name.startswith("beta") and y.max() > 100 * np.median(y):
            axes.set_yscale("log")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, metadata={"Software": "ornstein trace"})


def _show(axes: Any, spec: DataSpec, z: Tensor, reach: float) -> None:
    """One moment of the strip; arrays on the scale of [-1, 1], to which the data are mapped, traces to +-reach."""
    if spec.kind == "picture":
        axes.imshow(picture(spec, z)[0], interpolation="nearest")
    elif len(spec.shape) == 1:
        axes.plot(*z.numpy().T, ".", ms=1.6, mew=0, color=COLOURS[0])
        axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    elif len(spec.shape) == 2:
        for number, channel in enumerate(z[0].numpy()):
            axes.plot(channel, lw=0.7, color=COLOURS[number % len(COLOURS)])
        axes.set_ylim(-reach, reach)
    else:
        axes.imshow(field(z.numpy())[0, 0], vmin=-1, vmax=1, cmap="viridis", interpolation="nearest")


def _log_snr(schedule: Schedule, time: float) -> str:
    value = float(schedule.log_snr(time))
    return f"log SNR {value:.1f}" if np.isfinite(value) else ("data" if value > 0 else "noise")
