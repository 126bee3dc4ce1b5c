"""The training loss: one random term of the chain per sample, its weight, and the density of times (section 20.2)."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from torch import Tensor

from ornstein import noise
from ornstein.arguments import DensityName, TimesName, Weighting, require
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.encoder import Encoder, draw
from ornstein.diffusion.level import Level, as_time
from ornstein.diffusion.schedule import Schedule
from ornstein.isolation import isolated

__all__ = ["DENSITIES", "TIMES", "WEIGHTINGS", "Density", "denoising_loss", "draw_times"]

WEIGHTINGS, TIMES, DENSITIES = get_args(Weighting), get_args(TimesName), get_args(DensityName)
MIXED_LOG_SNR = (10.0, -6.0)  # range in which a third of the times of "mixed" are even


@isolated()
def denoising_loss(denoiser: Denoiser, x: Tensor, t: Tensor, eps: Tensor, condition: Condition = None,
                   weighting: str = "unit", data_std: Tensor | float = 1.0) -> Tensor:
    """Mean over the values of a sample of weight (v - v-hat)^2, with one latent z_t ~ q(z_t | x) per sample.

    The errors of an `Estimate`'s readings are multiples of one another, (eps - eps-hat) = c (v - v-hat) and
    (x - x-hat) = -s (v - v-hat), so every weighting is a weight on v:

    "eps": c^2, the simple loss of Ho et al. 2020;  "x": s^2;  "v": 1;  "unit": (c c' + s s' data_std)^-2, the
    error of the network's own output v' in units of which the best linear guess has variance 1 (Karras et al. 2022).

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) clean data.
        t: (B,) times in [0, 1].
        eps: (B, *shape) standard normal noise.
        condition: (B,) classes, -1 for none, or None.
        weighting: one of the four names.
        data_std: of the data, as for `NetworkDenoiser`; used by "unit".

    Returns:
        (B,) losses.

    Raises:
        ValueError: an unknown weighting, shapes that do not fit, a time outside [0, 1].
    """
    require("weighting", weighting, WEIGHTINGS)
    z = draw(Encoder(denoiser.schedule).kernel(x, t), eps)
    estimate = denoiser(z, t, condition)
    level = estimate.level
    c, s = level.unit
    if weighting == "unit":
        inner = Level(level.signal * data_std, level.noise).unit
        weight = (c * inner.signal + s * inner.noise * data_std) ** -2
    else:
        weight = {"eps": c**2, "x": s**2, "v": torch.ones_like(c)}[weighting]
    error = weight * (c * eps - s * x - estimate.v) ** 2
    return error.flatten(1).mean(1)


def draw_times(rows: int, seed: int, step: int, sampling: str = "stratified") -> Tensor:
    """Quantiles in [0, 1), (rows,) float64, which a `Density` maps to times.

    "stratified" draws one from each of `rows` equal intervals of [0, 1), in random order (Kingma et al. 2021): the same
    expectation as "uniform", with much less variance between batches.
    """
    require("times", sampling, TIMES)
    rng = noise.generator(seed, "train", 1, step)
    if sampling == "uniform":
        return torch.from_numpy(rng.random(rows))
    return torch.from_numpy((rng.permutation(rows) + rng.random(rows)) / rows)


class Density:
    """The density of training times, as a map from quantiles in [0, 1) to times.

    "time" is uniform in t (a random term of the chain), "angle" uniform in the angle of the rotation, "log_snr" a
    logistic density of the log SNR with mean 0 and scale 2, cut off at +-12. "mixed" draws two thirds of its times as
    "angle" does and a third uniformly in log SNR from -6 to 10, as the bound weighs them (Kingma et al. 2021): the
    grain of pictures is decided where the angle hardly changes.
    """

    def __init__(self, schedule: Schedule, kind: str = "angle") -> None:
        require("density", kind, DENSITIES)
        # A table of 4,096 linear pieces, since the schedule's inverse may be a bisection.
        quantile = torch.linspace(0, 1, 4097, dtype=torch.float64, device="cpu")
        last_angle = schedule.level(as_time(1.0)).angle
        if kind == "time":
            time = quantile
        elif kind == "log_snr":
            time = schedule.time((-2 * torch.logit(quantile)).clamp(-12, 12))
        elif kind == "angle":
            time = schedule.time_at(quantile * last_angle)
            time[-1] = 1.0
        else:
            log_snr = torch.linspace(24, -24, 4097, dtype=torch.float64, device="cpu")
            angle = torch.atan(torch.exp(-log_snr / 2)) / last_angle
            low = max(MIXED_LOG_SNR[1], float(schedule.log_snr(as_time(1.0))))
            high = max(MIXED_LOG_SNR[0], low + 1)
            uniform = ((high - log_snr) / (high - low)).clamp(0, 1)
            ends = quantile[:1], quantile[-1:]
            quantile = torch.cat([ends[0], (2 * angle.clamp(max=1) + uniform) / 3, ends[1]])
            time = torch.cat([ends[0], schedule.time(log_snr), ends[1]])
        self.quantile, self.time = quantile.numpy(), time.numpy()

    def __call__(self, quantile: Tensor) -> Tensor:
        """The times at quantiles in [0, 1), float64, shaped like them."""
        return torch.from_numpy(np.interp(quantile.numpy(), self.quantile, self.time))
