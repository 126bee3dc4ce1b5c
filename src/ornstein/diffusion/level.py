"""The level of a latent, its signal and noise, and times as float64 that may know their level."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.arguments import is_flag, short_repr

__all__ = ["Level", "as_float64", "as_time", "attach_level", "attached_level", "per_row"]


class Level(NamedTuple):
    """Signal and noise of a latent z = signal x + noise eps; both entries have the same shape and are >= 0."""

    signal: Tensor
    noise: Tensor

    @property
    def radius(self) -> Tensor:
        """hypot(signal, noise): 1 for every variance-preserving schedule."""
        return torch.hypot(self.signal, self.noise)

    @property
    def unit(self) -> Level:
        """The shares (c, s) of signal and noise in z / radius, whose squares add to 1."""
        radius = self.radius
        return Level(self.signal / radius, self.noise / radius)

    @property
    def angle(self) -> Tensor:
        """atan2(noise, signal) in [0, pi / 2], the natural time of the probability-flow ODE: 0 data, pi / 2 noise."""
        return torch.atan2(self.noise, self.signal)

    @property
    def log_snr(self) -> Tensor:
        """2 log(signal / noise), the lambda of Kingma et al. 2021; +-inf at exact ends."""
        return 2 * (self.signal.log() - self.noise.log())

    def fit(self, z: Tensor) -> Level:
        """The level in the dtype and on the device of `z`, shaped to broadcast against it.

        Args:
            z: (B, ...) latents, for a level of shape () or (B,).

        Raises:
            ValueError: the level has neither one entry nor one for each row of `z`.
        """
        return Level(per_row(self.signal, z), per_row(self.noise, z))


def per_row(value: Tensor, z: Tensor) -> Tensor:
    """A () or (B,) tensor in the dtype and on the device of z, (B, ...), shaped to broadcast against it."""
    if value.ndim == 0:
        return value.to(z)
    if value.ndim != 1 or z.ndim == 0 or value.shape[0] not in (1, z.shape[0]):
        raise ValueError(f"a time or level has shape {tuple(value.shape)}; it must be one number, or one for each of "
                         f"the rows of a tensor of shape {tuple(z.shape)}")
    return value.to(z).reshape(-1, *[1] * (z.ndim - 1))


class AttachedLevel(NamedTuple):
    """The level of times on a schedule, in float64 and, if known, `fitted` to the latents."""

    schedule: Any
    level: Level
    fitted: Level | None = None


def attach_level(schedule: Any, t: Tensor, level: Level | None = None, fitted: Level | None = None) -> Tensor:
    """Attach their level to times, () or (B,) float64 on the CPU, and return them."""
    t.attached_level = AttachedLevel(schedule, level or schedule.level(t), fitted)  # pyrefly: ignore  # a plain attribute
    return t


def attached_level(schedule: Any, t: Tensor | float) -> AttachedLevel | None:
    """The level attached to times, if it belongs to this schedule."""
    attached = getattr(t, "attached_level", None)
    return attached if attached is not None and attached.schedule is schedule else None


def as_time(t: Tensor | float, name: str = "t") -> Tensor:
    """A time as a float64 tensor on the CPU, checked to lie in [0, 1]."""
    if getattr(t, "attached_level", None) is not None:
        return t  # pyrefly: ignore  # only times have an attached level
    time = as_float64(name, t)
    inside = 0 <= t <= 1 if isinstance(t, float) else bool(((time >= 0) & (time <= 1)).all())
    if not inside:  # as for NaN
        raise ValueError(f"{name} is {time.flatten()[:4].tolist()}; every time must lie in [0, 1]")
    return time


def as_float64(name: str, value: Any) -> Tensor:
    """Numbers as a float64 tensor on the CPU, never by way of float32; ValueError for anything else."""
    try:
        if is_flag(value):
            raise TypeError
        return torch.as_tensor(value, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {short_repr(value)}; it must be a number, or a tensor or list of "
                         "numbers") from None
