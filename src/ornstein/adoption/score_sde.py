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

LEAST_TIME = 1e-5  # that a network of the VP SDE is told: where its training began


class ScoreSDE(Convention):
    """network(x, t) is the score of the VP or the VE SDE at x.

    VP, of a `Chain` with betas that rise evenly: x = z / hypot(signal, noise), and t solves
    b_0 t + (b_1 - b_0) t^2 / 2 = -2 log c, with b_0 = T beta_1, b_1 = T beta_T and c the share of signal in x.
    VE, of an `Exploding` one: x = z / signal, t = log(sigma / sigma_min) / log(sigma_max / sigma_min).
    """

    predicts = "eps"

    def __init__(self, schedule: Schedule | None = None) -> None:
        self._usual = schedule or Chain.linear()
        if isinstance(self._usual, Exploding):
            self.predicts = "v"  # x-hat = x + sigma^2 score holds at any noise

    def schedule(self) -> Schedule:
        return self._usual

    def check(self, schedule: Schedule) -> None:
        even = isinstance(schedule, Chain) and schedule.T > 1 and schedule.edge == 1 and torch.allclose(
            schedule.beta, torch.linspace(float(schedule.beta[0]), float(schedule.beta[-1]), schedule.T,
                                          dtype=torch.float64, device="cpu"), rtol=1e-4, atol=0)
        if not (even or isinstance(schedule, Exploding)):
            raise ValueError(f"schedule is {type(schedule).__name__}; the VP SDE is orn.Chain.linear(N, beta_min / N, "
                             "beta_max / N) and the VE SDE orn.Exploding(sigma_min, sigma_max)")

    def enter(self, level: Level, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        if isinstance(schedule, Exploding):
            sigma = (level.noise / level.signal).clamp(min=schedule.sigma_min)
            span = math.log(schedule.sigma_max / schedule.sigma_min)
            return 1 / level.signal, torch.log(sigma / schedule.sigma_min) / span
        share = self._share(level)
        first, rise, decay = *self._rates(schedule), -2 * torch.log(share)
        time = 2 * decay / (first + torch.sqrt(first**2 + 2 * rise * decay))
        return share / level.signal, time.clamp(min=LEAST_TIME)

    @staticmethod
    def _share(level: Level) -> Tensor:
        """c, of latents of this signal-to-noise ratio."""
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

    def read(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        schedule = self._usual
        if isinstance(schedule, Exploding):
            told = schedule.sigma_min * (schedule.sigma_max / schedule.sigma_min) ** time
            return Estimate.from_x(x + level.noise / level.signal * told * answer, z, level)
        first, rise = self._rates(schedule)
        # The deviation at the time that the network was told, so that its eps is kept where that is clamped.
        deviation = self._noise(first * time + rise * time**2 / 2)
        return Estimate.from_eps(-deviation * answer, z, level)


class SubVP(ScoreSDE):
    """As `ScoreSDE` of a chain, but that x = c data + (1 - c^2) eps, as of the sub-VP SDE."""

    def check(self, schedule: Schedule) -> None:
        super().check(schedule)
        if isinstance(schedule, Exploding):
            raise ValueError("schedule is Exploding; the sub-VP SDE is of orn.Chain.linear(N, beta_min / N, beta_max / "
                             "N), as the VP SDE is")

    @staticmethod
    def _share(level: Level) -> Tensor:
        # c / (1 - c^2) = signal / noise, solved for c without a difference.
        return 2 * level.signal / (level.noise + torch.hypot(level.noise, 2 * level.signal))

    @staticmethod
    def _noise(decay: Tensor) -> Tensor:
        return -torch.expm1(-decay)


class Score(KDiffusion):
    """network(x + sigma eps, sigma) is the score there, as in diffusers' pipelines of the VE SDE."""

    def ask(self, network: Any, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        return Convention.ask(self, network, x, time, condition)

    def read(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        return Estimate.from_x(x + level.noise / level.signal * time * answer, z, level)
