"""The convention of a library: what its networks take, and what they answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import Level
from ornstein.diffusion.schedule import Schedule

__all__ = ["Convention"]


class Convention(ABC):
    """Conversion between a latent z = signal x + noise eps at a time and a network's inputs and answers."""

    predicts = "v"  # or "eps", if the answer does not determine x at pure noise

    def default_schedule(self) -> Schedule | None:
        """The library's usual schedule, or None."""
        return None

    def check(self, schedule: Schedule) -> None:  # noqa: B027  (most fit any)
        """Raise ValueError for a schedule that does not fit the convention."""

    @abstractmethod
    def network_inputs(self, level: Level, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The factor that scales z to the network's input, and the network's time: float64, shaped like t.

        Args:
            level: of t on the schedule, float64.
            t: () or (B,) float64.
            schedule: of the latents.
        """

    def call(self, network: Any, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """Call a network on x (B, *shape) at its times (B,), with classes (B,) or without."""
        return network(x, time) if condition is None else network(x, time, condition)

    @abstractmethod
    def to_estimate(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        """Convert an answer to an estimate.

        Args:
            answer: shaped like z.
            x: the network's input.
            time: the network's times, which broadcast against z.
            z: the latent.
            level: of z, whose entries broadcast against it.
        """
