"""Noise and a model's exact paths from it to data, on which rules are compared and trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ornstein.diffusion.denoiser import Denoiser, pure_noise, reference_tensor
from ornstein.diffusion.grid import grid
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers.loop import generate

__all__ = ["Path", "Starts", "exact_starts"]

ACCURATE, MIN_STEPS, STEPS_PER_CALL = "adams-moulton", 60, 8  # of the exact paths


@dataclass(frozen=True)
class Path:
    """Latents, scaled to radius 1, and velocities of walks, (M, B, *shape), at (M,) decreasing angles above 0."""

    angles: Tensor
    points: Tensor
    slopes: Tensor

    def at(self, denoiser: Denoiser, time: Tensor) -> Tensor:
        """z at a time, (B, *shape), by cubic Hermite interpolation in the angle, with dy / d(angle) = v."""
        level = denoiser.schedule.level(as_time(time))
        low = int((self.angles > level.angle).sum().clamp(1, len(self.angles) - 1))
        width = self.angles[low] - self.angles[low - 1]
        u = (level.angle - self.angles[low - 1]) / width
        before, after = self.points[low - 1], self.points[low]
        y = ((1 + 2 * u) * (1 - u)**2).to(before) * before + (u**2 * (3 - 2 * u)).to(before) * after + (
            width * u * (1 - u)**2).to(before) * self.slopes[low - 1] - (width * u**2 * (1 - u)).to(
            before) * self.slopes[low]
        return level.radius.to(before) * y


@dataclass(frozen=True)
class Starts:
    """Noise at t = 1 with the end of its exact path, and the path itself if a student is to learn from it."""

    z: Tensor
    condition: Tensor | None
    end: Tensor
    path: Path | None = None

    def along(self, denoiser: Denoiser, times: Tensor) -> list[Tensor]:
        """Latents of the exact paths at times from 1 to 0; ValueError if the paths were not kept."""
        if self.path is None:
            raise ValueError("path is None; keep it to learn from it")
        return [self.z, *(self.path.at(denoiser, time) for time in times[1:-1]), self.end]

    def first(self, count: int) -> Starts:
        """The first `count` starts, without their paths."""
        return replace(self, z=self.z[:count], end=self.end[:count], path=None,
                       condition=None if self.condition is None else self.condition[:count])


def exact_starts(denoiser: Denoiser, nfe: int, indices: range, conditions: Tensor | None, seed: int,
                 keep: bool = False) -> Starts:
    """Starts with these indices, followed exactly enough for a budget of `nfe` calls; `keep` keeps their paths."""
    z = pure_noise(denoiser, seed, "tune", indices, reference_tensor(denoiser))
    times = grid(denoiser.schedule, max(MIN_STEPS, STEPS_PER_CALL * nfe), "power")
    angles, points, slopes, end = [], [], [], z
    for frame in generate(denoiser, z=z, condition=conditions, sampler=ACCURATE, times=times):
        if keep and frame.time > 0:
            level = denoiser.schedule.level(as_time(frame.time))
            angles.append(level.angle)
            points.append(frame.latent / level.radius.to(z))
            slopes.append(frame.estimate.v)
        end = frame.latent
    path = Path(torch.stack(angles), torch.stack(points), torch.stack(slopes)) if keep else None
    return Starts(z, conditions, end, path)
