"""Networks that map x + sigma eps to clean data: k-diffusion, and Karras et al. 2022 (EDM)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ornstein.adoption.convention import Convention
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import Level
from ornstein.diffusion.schedule import Exploding, Schedule

__all__ = ["EDM", "KDiffusion", "Preconditioned"]

MIN_SIGMA = 0.002  # of a network's input: the sigma_min of both libraries' samplers


class KDiffusion(Convention):
    """network(z / signal, sigma) is x-hat, where sigma = noise / signal; classes are its keyword `class_cond`.

    Sigma is clamped from below at 0.002, or the `sigma_min` of an exploding schedule; the noise that the answer implies
    is then kept.
    """

    def default_schedule(self) -> Schedule:
        return Exploding()

    def check(self, schedule: Schedule) -> None:
        if float(schedule.level(torch.tensor(1.0, dtype=torch.float64, device="cpu")).signal) == 0:
            raise ValueError(f"schedule is {type(schedule).__name__}, which ends without signal, and sigma = noise / "
                             "signal is infinite there; give orn.Exploding(sigma_min, sigma_max)")

    def network_inputs(self, level: Level, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        minimum = schedule.sigma_min if isinstance(schedule, Exploding) else MIN_SIGMA
        return 1 / level.signal, (level.noise / level.signal).clamp(min=minimum)

    def call(self, network: Any, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        return network(x, time) if condition is None else network(x, time, class_cond=condition)

    def to_estimate(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        return Estimate.from_x(x - level.noise / level.signal / time * (x - answer), z, level)


class EDM(KDiffusion):
    """As `KDiffusion`, except that classes are one-hot rows as the third argument, zeros for none."""

    def __init__(self, classes: int = 0) -> None:
        self.classes = classes

    def call(self, network: Any, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        if condition is None:
            return network(x, time)
        rows = torch.zeros(len(x), self.classes, dtype=x.dtype, device=x.device)
        has_class = condition >= 0
        rows[has_class, condition[has_class]] = 1
        return network(x, time, rows)


class Preconditioned(KDiffusion):
    """network(x / hypot(sigma, d), log(sigma) / 4) is F, with x-hat = (d^2 x + sign sigma d hypot(sigma, d) F) /
    (sigma^2 + d^2) for data of standard deviation d: the inner network of EDM (sign 1), or v of diffusers (sign -1)."""

    def __init__(self, sign: int, deviation: float = 0.5) -> None:
        self.sign, self.deviation = sign, deviation

    def call(self, network: Any, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        return Convention.call(self, network, x, time, condition)

    def network_inputs(self, level: Level, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        scale, sigma = super().network_inputs(level, t, schedule)
        return scale / torch.hypot(sigma, torch.full_like(sigma, self.deviation)), sigma.log() / 4

    def to_estimate(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        sigma = (4 * time).exp()
        radius = torch.hypot(sigma, torch.full_like(sigma, self.deviation))
        clean = self.deviation / radius * (self.deviation * x + self.sign * sigma * answer)
        return super().to_estimate(clean, radius * x, sigma, z, level)
