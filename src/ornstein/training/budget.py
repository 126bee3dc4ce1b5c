"""How much of a training's budget is used, and what is due at which share of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ornstein.settings import Settings
from ornstein.training.plan import MINUTES

__all__ = ["Budget", "Due"]


class Budget:
    """A budget of pictures, or of wall clock less what the end of the training will need.

    Args:
        settings: resolved.
        started: `time.monotonic()` when it began to count.
        note: of the state that the training goes on from.
    """

    def __init__(self, settings: Settings, started: float, note: Mapping[str, Any]) -> None:
        self.images, self.whole = settings.images, 60 * (settings.minutes or MINUTES)
        # A resumed budget goes on where its checkpoint was written; what a new start of the same job lost counts too.
        self.origin = min(started, time.monotonic() - note["seconds"])
        self.tail = note["tail"]  # seconds that the end will need
        self.prelude = note.get("prelude", 0.0)  # seconds before the first step

    @property
    def seconds(self) -> float:
        """Wall clock since it began to count."""
        return time.monotonic() - self.origin

    def share(self, images: int) -> float:
        """The share that is used after so many pictures."""
        if self.images is not None:
            return images / self.images
        return (self.seconds - self.prelude) / max(self.whole - self.tail - self.prelude, 1e-9)

    def left(self, images: int, rate: float) -> float:
        """Seconds that are left after so many pictures, at so many a second."""
        left = self.whole - self.seconds if self.images is None else (self.images - images) / max(rate, 1e-9)
        return max(left, 0.0)


class Due:
    """What is to be done once at each of some shares of the budget, later than where the training goes on."""

    def __init__(self, shares: Sequence[float], begun: float) -> None:
        self.shares = [share for share in shares if share > begun]

    def __call__(self, share: float) -> list[float]:
        """The shares that have been reached since it was last asked."""
        reached = [mark for mark in self.shares if mark <= share]
        self.shares = self.shares[len(reached):]
        return reached
