"""The forward encoder (section 20.1) on a picture of the user's own, in numbers for a page."""

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
from ornstein.figures.subject import read_sample, scale
from ornstein.studio import work
from ornstein.studio.library import Model
from ornstein.studio.refusal import Refused

__all__ = ["kernel", "noised", "posterior", "schedule"]

BINS, REACH, CURVE = 48, 4.0, 161  # of a histogram, deviations that a curve shows, points of it


def schedule(model: Model, points: int) -> dict[str, Any]:
    """Signal, noise and log SNR at evenly spaced times; the log SNR is null where it is infinite."""
    path, t = model.denoiser.schedule, torch.linspace(0, 1, points, dtype=torch.float64)
    level = path.level(t)
    snr = [value if math.isfinite(value) else None for value in path.log_snr(t).tolist()]
    return {"model": model.name, "schedule": type(path).__name__, "t": t.tolist(), "signal": level.signal.tolist(),
            "noise": level.noise.tolist(), "log_snr": snr, "equation": "(20.7), (20.8)",
            "python": "level = model.schedule.level(t); level.signal, level.noise, level.log_snr"}


def noised(model: Model, path: Path, t: float, seed: int) -> dict[str, Any]:
    """One draw of q(z_t | x), drawn as a picture and counted."""
    x, z = _walked(model, path, t, seed)
    shown = z / scale(model.denoiser.schedule, t)
    counts, edges = np.histogram(z.numpy(), BINS, (-REACH, REACH))
    return {"model": model.name, "t": t, **_level(model, t), "image": _png(model, shown), "clean": _png(model, x),
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()}, "equation": "(20.6), (20.8)",
            "python": f"z = orn.draw(orn.Encoder(model.schedule).kernel(x, {t:g}), eps)"}


def kernel(model: Model, path: Path, t: float, place: tuple[int, int, int]) -> dict[str, Any]:
    """Mean, variance and density of one pixel's z_t."""
    x = _read(model, path)
    here = _place(x, place)
    law = Encoder(model.denoiser.schedule).kernel(x, t).base_dist
    mean, variance = float(law.mean[here]), float(law.variance[here])
    return {"model": model.name, "t": t, "x": float(x[here]), "mean": mean, "variance": variance,
            **_level(model, t), "curve": _curve(mean, variance), "equation": "(20.6)",
            "python": f"q = orn.Encoder(model.schedule).kernel(x, {t:g}); q.mean, q.variance"}


def posterior(model: Model, path: Path, s: float, t: float, place: tuple[int, int, int], seed: int) -> dict[str, Any]:
    """Mean, variance and density of one pixel's z_s, given z_t and x."""
    if s >= t:
        raise Refused(422, f"s is {s:g} and t is {t:g}; s must be less than t", "s")
    x, z = _walked(model, path, t, seed)
    here = _place(x, place)
    law = Encoder(model.denoiser.schedule).posterior(x, z, s, t).base_dist
    mean, variance = float(law.mean[here]), float(law.variance[here])
    if not math.isfinite(mean):  # 0 / 0
        raise Refused(422, f"t is {t:g}, where the noise is too little to be told from none; choose a larger one", "t")
    return {"model": model.name, "s": s, "t": t, "x": float(x[here]), "z": float(z[here]), "mean": mean,
            "variance": variance, "curve": _curve(mean, variance), "equation": "(20.15)-(20.17)",
            "python": f"q = orn.Encoder(model.schedule).posterior(x, z, {s:g}, {t:g}); q.mean, q.variance"}


def _read(model: Model, path: Path) -> Tensor:
    try:
        return read_sample(model.spec, path)
    except ValueError as error:
        raise Refused(422, f"the picture cannot be used: {str(error).replace(str(path), 'it')}", "picture") from None


def _walked(model: Model, path: Path, t: float, seed: int) -> tuple[Tensor, Tensor]:
    x = _read(model, path)
    eps = noise.per_sample(seed, "edit", range(1), 0, torch.empty_like(x))
    return x, draw(Encoder(model.denoiser.schedule).kernel(x, t), eps)


def _level(model: Model, t: float) -> dict[str, Any]:
    level = model.denoiser.schedule.level(as_time(t))
    snr = float(level.log_snr)
    return {"signal": float(level.signal), "noise": float(level.noise), "log_snr": snr if math.isfinite(snr) else None}


def _place(x: Tensor, place: tuple[int, int, int]) -> tuple[int, ...]:
    """Where a pixel is in (1, *shape); of other data the last numbers count."""
    sides = x.shape[1:]
    here = place[-len(sides):]
    for name, at, side in zip(("channel", "row", "column")[-len(sides):], here, sides, strict=True):
        if at >= side:
            raise Refused(422, f"{name} is {at}; it must be from 0 to {side - 1}", name, side - 1)
    return (0, *here)


def _curve(mean: float, variance: float) -> dict[str, Any] | None:
    """The density of a Gaussian, or None of one without variance, which is a point."""
    if variance <= 0:
        return None
    std = math.sqrt(variance)
    value = np.linspace(mean - REACH * std, mean + REACH * std, CURVE)
    density = np.exp(-0.5 * ((value - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    return {"value": value.tolist(), "density": density.tolist()}


def _png(model: Model, x: Tensor) -> str:
    return work.data_url(work.as_images(model.spec, x.clamp(-1, 1))[0])
