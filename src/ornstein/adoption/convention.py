"""What a library means by a denoiser: what its networks are given, and what they answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import Level
from ornstein.diffusion.schedule import Schedule

__all__ = ["Convention"]


class Convention(ABC):
    """A library's inputs and answers, in terms of a latent z = signal x + noise eps and its time."""

    predicts = "v"  # "eps" where the answer says nothing of x at pure noise

    def schedule(self) -> Schedule | None:
        """The library's usual schedule; None where there is no such thing."""
        return None

    def check(self, schedule: Schedule) -> None:  # noqa: B027  (most fit any)
        """Refuse a schedule that the convention does not fit, with a ValueError."""

    @abstractmethod
    def enter(self, level: Level, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The factor by which a latent becomes the network's, and the network's time: float64, shaped like t.

        Args:
            level: of t on the schedule, float64.
            t: () or (B,) float64.
            schedule: of the latents.
        """

    def ask(self, network: Any, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """The answer of a network for x (B, *shape) at its times (B,), told classes (B,) or nothing."""
        return network(x, time) if condition is None else network(x, time, condition)

    @abstractmethod
    def read(self, answer: Tensor, x: Tensor, time: Tensor, z: Tensor, level: Level) -> Estimate:
        """An answer as an estimate of what is behind z.

        Args:
            answer: shaped like z.
            x: what the network was given.
            time: its times, shaped to broadcast against z.
            z: the latent.
            level: of it, entries that broadcast against z.
        """
