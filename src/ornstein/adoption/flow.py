"""Velocities of straight paths between data and noise: Lipman et al. 2023; Liu et al. 2023; Tong et al. 2024."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ornstein.adoption.convention import Convention
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import Level
from ornstein.diffusion.schedule import Linear, Schedule

__all__ = ["Flow", "FlowMatching", "TorchCFM"]


class Flow(Convention):
    """network(x, tau) is eps - x along x_tau = (1 - tau) x + tau eps: data at 0, noise at 1, as in rectified flow.

    On another schedule x_tau = z / (signal + noise) and tau = noise / (signal + noise). The network gets `steps` tau.
    """

    is_reversed = False  # whether tau runs from noise to data

    def __init__(self, steps: float = 1.0) -> None:
        self.steps = steps

    def default_schedule(self) -> Schedule:
        return Linear()

    def network_inputs(self, level: Level, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        total = level.signal + level.noise
        return 1 / total, self.steps * (level.signal if self.is_reversed else level.noise) / total

    def to_estimate(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        tau, velocity = (1 - time, -answer) if self.is_reversed else (time / self.steps, answer)
        c, s = level.unit
        # From x-hat = x - tau u and eps-hat = x + (1 - tau) u, v needs no division.
        return Estimate.from_v(c * (x + (1 - tau) * velocity) - s * (x - tau * velocity), z, level)


class FlowMatching(Flow):
    """network(x, tau) is x - eps, with noise at tau = 0 and data at 1, as in flow_matching."""

    is_reversed = True


class TorchCFM(FlowMatching):
    """As `FlowMatching`, called as network(tau, x), as in torchcfm."""

    def call(self, network: Any, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        return network(time, x) if condition is None else network(time, x, condition)
