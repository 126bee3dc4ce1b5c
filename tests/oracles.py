"""Denoisers that tests of likelihoods share: other shapes, and answers that are wrong by a known amount."""

from __future__ import annotations

import numpy as np
import torch

import ornstein as orn
from ornstein.diffusion.level import as_time


def mixture(schedule: orn.Schedule, dim: int, components: int = 6, seed: int = 7) -> orn.ExactMixture:
    """Components of deviation 0.2 to 0.6 around standard normal means: neither smooth nor sharp."""
    rng = np.random.default_rng(seed)
    return orn.ExactMixture(torch.from_numpy(rng.random(components) + 0.2),
                            torch.from_numpy(rng.standard_normal((components, dim))),
                            torch.from_numpy(rng.uniform(0.2, 0.6, components) ** 2), schedule)


class Viewed(orn.Denoiser):
    """A denoiser of vectors, seen as one of samples of another shape: a user's own subclass."""

    def __init__(self, inner: orn.Denoiser, shape: tuple[int, ...]) -> None:
        super().__init__(inner.schedule, shape)
        self.inner = inner

    def forward(self, z, t, condition=None):
        v = self.inner(z.reshape(len(z), -1), t, condition).v
        return orn.Estimate(z, self.level(z, t), v.reshape(z.shape))


class Shifted(orn.Denoiser):
    """x-hat of another denoiser moved by shift * noise / radius in every value."""

    def __init__(self, inner: orn.Denoiser, shift: float) -> None:
        super().__init__(inner.schedule, inner.shape)
        self.inner, self.shift = inner, shift

    def forward(self, z, t, condition=None):
        # x = c z / r - s v, so x-hat moves by noise / radius * shift when v moves by -shift.
        return orn.Estimate(z, self.level(z, t), self.inner(z, t, condition).v - self.shift)


def snr(schedule: orn.Schedule, t: torch.Tensor) -> torch.Tensor:
    """(signal / noise)^2 at times t."""
    level = schedule.level(as_time(t))
    return (level.signal / level.noise) ** 2


def error_of(values: torch.Tensor) -> float:
    """Standard error of the mean."""
    return float(values.std() / len(values) ** 0.5)
