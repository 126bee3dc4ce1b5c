"""The forward encoder (section 20.1) applied to a client's picture, as numbers to plot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein import noise
from ornstein.diffusion.encoder import Encoder, draw
from ornstein.diffusion.level import as_time
from ornstein.figures.subject import display_scale, read_sample
from ornstein.studio import job_kinds
from ornstein.studio.errors import Refused
from ornstein.studio.library import Model

__all__ = ["kernel", "noised", "posterior", "schedule"]

BINS = 48  # of a histogram
REACH, CURVE_POINTS = 4.0, 161  # standard deviations on each side of a curve, and its points


def schedule(model: Model, points: int) -> dict[str, Any]:
    """Signal, noise and log SNR at evenly spaced times; the log SNR is null where it is infinite."""
    path, t = model.denoiser.schedule, torch.linspace(0, 1, points, dtype=torch.float64)
    level = path.level(t)
    log_snr = [value if math.isfinite(value) else None for value in path.log_snr(t).tolist()]
    return {"model": model.name, "schedule": type(path).__name__, "t": t.tolist(), "signal": level.signal.tolist(),
            "noise": level.noise.tolist(), "log_snr": log_snr, "equation": "(20.7), (20.8)",
            "python": "level = model.schedule.level(t); level.signal, level.noise, level.log_snr"}


def noised(model: Model, path: Path, t: float, seed: int) -> dict[str, Any]:
    """One draw of q(z_t | x), as a picture and a histogram."""
    x, z = _encode(model, path, t, seed)
    counts, edges = np.histogram(z.numpy(), BINS, (-REACH, REACH))
    return {"model": model.name, "t": t, **_level(model, t),
            "image": _data_url(model, z / display_scale(model.denoiser.schedule, t)), "clean": _data_url(model, x),
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()}, "equation": "(20.6), (20.8)",
            "python": f"z = orn.draw(orn.Encoder(model.schedule).kernel(x, {t:g}), eps)"}


def kernel(model: Model, path: Path, t: float, pixel: tuple[int, int, int]) -> dict[str, Any]:
    """Mean, variance and density of one pixel of z_t given x; a pixel is its channel, row and column."""
    x = _read_picture(model, path)
    index = _pixel_index(x, pixel)
    q = Encoder(model.denoiser.schedule).kernel(x, t).base_dist
    mean, variance = float(q.mean[index]), float(q.variance[index])
    return {"model": model.name, "t": t, "x": float(x[index]), "mean": mean, "variance": variance,
            **_level(model, t), "curve": _density(mean, variance), "equation": "(20.6)",
            "python": f"q = orn.Encoder(model.schedule).kernel(x, {t:g}); q.mean, q.variance"}


def posterior(model: Model, path: Path, s: float, t: float, pixel: tuple[int, int, int], seed: int) -> dict[str, Any]:
    """Mean, variance and density of one pixel of z_s given z_t and x."""
    if s >= t:
        raise Refused(422, f"s is {s:g} and t is {t:g}; s must be less than t", "s")
    x, z = _encode(model, path, t, seed)
    index = _pixel_index(x, pixel)
    q = Encoder(model.denoiser.schedule).posterior(x, z, s, t).base_dist
    mean, variance = float(q.mean[index]), float(q.variance[index])
    if not math.isfinite(mean):  # 0 / 0
        raise Refused(422, f"t is {t:g}, where the noise rounds to zero; choose a larger one", "t")
    return {"model": model.name, "s": s, "t": t, "x": float(x[index]), "z": float(z[index]), "mean": mean,
            "variance": variance, "curve": _density(mean, variance), "equation": "(20.15)-(20.17)",
            "python": f"q = orn.Encoder(model.schedule).posterior(x, z, {s:g}, {t:g}); q.mean, q.variance"}


def _read_picture(model: Model, path: Path) -> Tensor:
    try:
        return read_sample(model.spec, path)
    except ValueError as error:
        raise Refused(422, f"the picture cannot be used: {str(error).replace(str(path), 'it')}", "picture") from None


def _encode(model: Model, path: Path, t: float, seed: int) -> tuple[Tensor, Tensor]:
    """x and a draw of z_t."""
    x = _read_picture(model, path)
    eps = noise.per_sample(seed, "edit", range(1), 0, torch.empty_like(x))
    return x, draw(Encoder(model.denoiser.schedule).kernel(x, t), eps)


def _level(model: Model, t: float) -> dict[str, Any]:
    level = model.denoiser.schedule.level(as_time(t))
    log_snr = float(level.log_snr)
    return {"signal": float(level.signal), "noise": float(level.noise),
            "log_snr": log_snr if math.isfinite(log_snr) else None}


def _pixel_index(x: Tensor, pixel: tuple[int, int, int]) -> tuple[int, ...]:
    """The index of a pixel in (1, *shape); data with fewer axes use the last numbers."""
    shape = x.shape[1:]
    index = pixel[-len(shape):]
    for name, position, size in zip(("channel", "row", "column")[-len(shape):], index, shape, strict=True):
        if position >= size:
            raise Refused(422, f"{name} is {position}; it must be from 0 to {size - 1}", name, size - 1)
    return (0, *index)


def _density(mean: float, variance: float) -> dict[str, Any] | None:
    """The density of a Gaussian; None if it has no variance."""
    if variance <= 0:
        return None
    std = math.sqrt(variance)
    value = np.linspace(mean - REACH * std, mean + REACH * std, CURVE_POINTS)
    density = np.exp(-0.5 * ((value - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    return {"value": value.tolist(), "density": density.tolist()}


def _data_url(model: Model, x: Tensor) -> str:
    return job_kinds.data_url(job_kinds.as_images(model.spec, x.clamp(-1, 1))[0])
