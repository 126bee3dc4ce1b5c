"""Score networks of a stochastic differential equation in continuous time: Song et al. 2021."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ornstein.adoption.convention import Convention
from ornstein.adoption.karras import KDiffusion
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import Level
from ornstein.diffusion.schedule import Chain, Exploding, Schedule

__all__ = ["Score", "ScoreSDE", "SubVP"]

MIN_TIME = 1e-5  # of a VP network's input: the smallest of its training


class ScoreSDE(Convention):
    """network(x, t) is the score of the VP or the VE SDE at x.

    VP, of a `Chain` with evenly spaced betas: x = z / hypot(signal, noise), and t solves
    b_0 t + (b_1 - b_0) t^2 / 2 = -2 log c, with b_0 = T beta_1, b_1 = T beta_T and c the share of signal in x.
    VE, of `Exploding`: x = z / signal, t = log(sigma / sigma_min) / log(sigma_max / sigma_min).
    """

    predicts = "eps"

    def __init__(self, schedule: Schedule | None = None) -> None:
        self._schedule = schedule or Chain.linear()
        if isinstance(self._schedule, Exploding):
            self.predicts = "v"  # x-hat = x + sigma^2 score holds at any noise

    def default_schedule(self) -> Schedule:
        return self._schedule

    def check(self, schedule: Schedule) -> None:
        is_even = isinstance(schedule, Chain) and schedule.T > 1 and schedule.edge == 1 and torch.allclose(
            schedule.beta, torch.linspace(float(schedule.beta[0]), float(schedule.beta[-1]), schedule.T,
                                          dtype=torch.float64, device="cpu"), rtol=1e-4, atol=0)
        if not (is_even or isinstance(schedule, Exploding)):
            raise ValueError(f"schedule is {type(schedule).__name__}; the VP SDE is orn.Chain.linear(N, beta_min / N, "
                             "beta_max / N) and the VE SDE orn.Exploding(sigma_min, sigma_max)")

    def network_inputs(self, level: Level, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        if isinstance(schedule, Exploding):
            sigma = (level.noise / level.signal).clamp(min=schedule.sigma_min)
            span = math.log(schedule.sigma_max / schedule.sigma_min)
            return 1 / level.signal, torch.log(sigma / schedule.sigma_min) / span
        share = self._share(level)
        first, rise, decay = *self._rates(schedule), -2 * torch.log(share)
        time = 2 * decay / (first + torch.sqrt(first**2 + 2 * rise * decay))
        return share / level.signal, time.clamp(min=MIN_TIME)

    @staticmethod
    def _share(level: Level) -> Tensor:
        """c at a level."""
        return level.unit.signal

    @staticmethod
    def _noise(decay: Tensor) -> Tensor:
        """The noise in x, from -2 log c."""
        return torch.sqrt(-torch.expm1(-decay))

    @staticmethod
    def _rates(schedule: Schedule) -> tuple[float, float]:
        """b_0, and b_1 - b_0."""
        beta, count = (schedule.beta, schedule.T) if isinstance(schedule, Chain) else (torch.ones(1), 1)
        return float(beta[0]) * count, float(beta[-1] - beta[0]) * count

    def to_estimate(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        schedule = self._schedule
        if isinstance(schedule, Exploding):
            sigma = schedule.sigma_min * (schedule.sigma_max / schedule.sigma_min) ** time
            return Estimate.from_x(x + level.noise / level.signal * sigma * answer, z, level)
        first, rise = self._rates(schedule)
        # The deviation at the network's time, so that its eps is kept where that is clamped.
        deviation = self._noise(first * time + rise * time**2 / 2)
        return Estimate.from_eps(-deviation * answer, z, level)


class SubVP(ScoreSDE):
    """As `ScoreSDE` of a chain, for the sub-VP SDE: x = c data + (1 - c^2) eps."""

    def check(self, schedule: Schedule) -> None:
        super().check(schedule)
        if isinstance(schedule, Exploding):
            raise ValueError("schedule is Exploding; the sub-VP SDE needs orn.Chain.linear(N, beta_min / N, beta_max / "
                             "N), as the VP SDE does")

    @staticmethod
    def _share(level: Level) -> Tensor:
        # Solves c / (1 - c^2) = signal / noise without cancellation.
        return 2 * level.signal / (level.noise + torch.hypot(level.noise, 2 * level.signal))

    @staticmethod
    def _noise(decay: Tensor) -> Tensor:
        return -torch.expm1(-decay)


class Score(KDiffusion):
    """network(x + sigma eps, sigma) is the score there, as in the VE SDE pipelines of diffusers."""

    def call(self, network: Any, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        return Convention.call(self, network, x, time, condition)

    def to_estimate(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        return Estimate.from_x(x + level.noise / level.signal * time * answer, z, level)
