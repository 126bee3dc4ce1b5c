"""One estimate of a denoiser, four readings: clean data, noise, velocity, score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from ornstein.arguments import Prediction
from ornstein.diffusion.level import Level

__all__ = ["MIN_SIGNAL", "PREDICTIONS", "READINGS", "Estimate"]

PREDICTIONS = get_args(Prediction)
MIN_SIGNAL = 1e-3  # share of signal below which a prediction of eps says nothing about x in float32


@dataclass(frozen=True)
class Estimate:
    """A denoiser's estimate of the clean data behind a latent.

    With r = hypot(signal, noise) and (c, s) = (signal, noise) / r the velocity is v = c eps - s x
    (Salimans & Ho 2022), and the readings follow without a division that could fail:

        x = c z / r - s v,   eps = s z / r + c v.

    Args:
        z: (B, ...) the latent.
        level: its signal and noise, which broadcast against z.
        v: (B, ...) the velocity, in the data's own units.
    """

    z: Tensor
    level: Level
    v: Tensor

    @classmethod
    def from_v(cls, v: Tensor, z: Tensor, level: Level) -> Estimate:
        """An estimate from the velocity; v and z (B, ...), level entries () or (B,) or broadcastable."""
        return cls(z, _fit(level, z), v)

    @classmethod
    def from_x(cls, x: Tensor, z: Tensor, level: Level) -> Estimate:
        """An estimate from clean data: v = (c z / r - x) / s, and v = 0 where there is no noise.

        Args:
            x: (B, ...) predicted clean data.
            z: (B, ...) the latent.
            level: its signal and noise, () or (B,).
        """
        level = _fit(level, z)
        c, s = level.unit
        clean = s == 0
        return cls(z, level, ((c * z / level.radius - x) / s.masked_fill(clean, 1)).masked_fill(clean, 0))

    @classmethod
    def from_eps(cls, eps: Tensor, z: Tensor, level: Level) -> Estimate:
        """An estimate from the noise: v = (eps - s z / r) / c.

        Args:
            eps: (B, ...) predicted noise.
            z: (B, ...) the latent.
            level: its signal and noise, () or (B,).

        Raises:
            ValueError: c = signal / hypot(signal, noise) is below 1e-3, where noise says nothing about the data.
        """
        level = _fit(level, z)
        c, s = level.unit
        # An exported graph has no checks.
        if not torch.compiler.is_exporting() and (c < MIN_SIGNAL).any():
            raise ValueError(f"signal / hypot(signal, noise) is {float(c.min()):.2g}; a prediction of eps needs at "
                             f"least {MIN_SIGNAL:g} (predict v, or end the schedule earlier)")
        return cls(z, level, (eps - s * z / level.radius) / c)

    @property
    def x(self) -> Tensor:
        """Clean data, E[x | z_t] for the optimal denoiser, shaped like z."""
        radius = self.level.radius
        return self.level.signal / radius**2 * self.z - self.level.noise / radius * self.v

    @property
    def eps(self) -> Tensor:
        """Total noise (20.8), shaped like z."""
        radius = self.level.radius
        return self.level.noise / radius**2 * self.z + self.level.signal / radius * self.v

    @property
    def score(self) -> Tensor:
        """Gradient of log q(z_t) in z, -eps / noise (section 20.3), shaped like z.

        Raises:
            ValueError: a level without noise, where the score does not exist.
        """
        if (self.level.noise == 0).any():
            raise ValueError("noise is 0 at this time; the score exists only where noise > 0 (take t > 0)")
        return -self.eps / self.level.noise


READINGS = {"x": Estimate.from_x, "eps": Estimate.from_eps, "v": Estimate.from_v}  # by what a network predicts


def _fit(level: Level, z: Tensor) -> Level:
    """The level shaped to broadcast against z, unless it already does."""
    return level.fit(z) if level.signal.ndim < 2 else level
