"""How much of a training's budget is used, and what is due at which share of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ornstein.settings import Settings
from ornstein.training.choices import MINUTES
from ornstein.training.engine import Engine

__all__ = ["Budget", "Due", "Milestones", "Timetable"]

LOG_SECONDS = 1.0  # between lines of metrics
SAVE_SHARE = 0.02  # of the time, at most, spent on writing states
PREVIEWS = (0.1, 0.25, 0.5, 0.75)  # shares of the budget at which to draw samples, as is done at the end
PREVIEW_SHARE = 0.05  # of the time, at most, spent on previews
EVALUATIONS = (0.02, *PREVIEWS)  # shares of the budget at which to compute the losses of the average


class Budget:
    """A budget of pictures, or of wall clock minus the time that the end of the training will need.

    `started` is `time.monotonic()` at its start, `metadata` that of the state that the training resumes from.
    """

    def __init__(self, settings: Settings, started: float, metadata: Mapping[str, Any]) -> None:
        self.images, self.total_seconds = settings.images, 60 * (settings.minutes or MINUTES)
        # A resumed budget continues from its checkpoint; time lost to a restart of the same job counts too.
        self.origin = min(started, time.monotonic() - metadata["seconds"])
        self.tail = metadata["tail"]  # seconds that the end will need
        self.prelude = metadata.get("prelude", 0.0)  # seconds before the first step

    def record_prelude(self, engine: Engine) -> None:
        """Record the time that has passed before the first step."""
        self.prelude = min(engine.maximum([self.seconds])[0], self.total_seconds / 2)

    def record_evaluation(self, seconds: float) -> None:
        """Record how long an evaluation took: the end needs another one, and a checkpoint."""
        self.tail = max(self.tail, 1.2 * seconds)

    @property
    def seconds(self) -> float:
        """Wall clock since the start of the budget."""
        return time.monotonic() - self.origin

    def share(self, images: int) -> float:
        """The share of the budget that is used after `images` pictures."""
        if self.images is not None:
            return images / self.images
        return (self.seconds - self.prelude) / max(self.total_seconds - self.tail - self.prelude, 1e-9)

    def left(self, images: int, rate: float) -> float:
        """Seconds left after `images` pictures, at `rate` pictures per second."""
        left = self.total_seconds - self.seconds if self.images is None else (self.images - images) / max(rate, 1e-9)
        return max(left, 0.0)


@dataclass(frozen=True)
class Due:
    """What is due before a step, the same in every process."""

    share: float  # of the budget that is used
    rate: float | None  # pictures per second since the last line of progress, if the next one is due
    evaluation: bool  # of the averaged model's losses
    preview: bool
    snapshot: bool
    save: bool
    stop: bool
    compiled: bool


class Timetable:
    """When lines of progress, evaluations, previews, snapshots and states are due, by the first process's clock.

    It counts from `images` pictures; only a run with a folder `keeps` snapshots.
    """

    def __init__(self, budget: Budget, settings: Settings, engine: Engine, images: int, keeps: bool) -> None:
        self.budget, self.settings, self.engine = budget, settings, engine
        self.start_images = self.logged_images = images
        # With sharded weights all processes must evaluate at the same time.
        start = engine.maximum([budget.share(images) if engine.is_first else 0.0])[0]
        count = settings.snapshots if keeps else 0
        self.evaluations = Milestones(EVALUATIONS, start)
        self.snapshots = Milestones([index / count for index in range(1, count + 1)], start)
        self.now = self.last_logged = self.last_saved = time.monotonic()
        self.save_interval, self.preview_seconds = settings.save_seconds, 0.0

    def due(self, images: int, stopping: bool, compiled: bool) -> Due:
        """What is due after `images` pictures; a request to stop any process stops all."""
        self.now, weight, moved = time.monotonic(), float(self.engine.is_first), images > self.start_images
        share, log, save, stop, done = self.engine.maximum([
            weight * self.budget.share(images), weight * (self.now - self.last_logged >= LOG_SECONDS),
            weight * (self.now - self.last_saved >= self.save_interval), float(stopping), float(compiled)])
        rate = None
        if log or images == self.start_images + self.settings.batch_size:
            rate = (images - self.logged_images) / (self.now - self.last_logged)
            self.logged_images, self.last_logged = images, self.now
        reached = self.evaluations.pop(share)
        return Due(share, rate, bool(reached), not {*reached}.isdisjoint(PREVIEWS),
                   moved and bool(self.snapshots.pop(share)), moved and bool(stop or save), bool(stop), bool(done))

    def can_preview(self) -> bool:
        """Whether previews have not taken too much of the time so far."""
        allowed = self.preview_seconds <= PREVIEW_SHARE * self.budget.seconds
        return bool(self.engine.maximum([float(self.engine.is_first and allowed)])[0])

    def record_preview(self, seconds: float) -> None:
        """Record how long a preview took."""
        self.preview_seconds += seconds

    def record_save(self) -> None:
        """Record that a state has been written: the longer it took, the later the next one is due."""
        self.last_saved = time.monotonic()
        self.save_interval = max(self.settings.save_seconds, (self.last_saved - self.now) / SAVE_SHARE)


class Milestones:
    """Shares of the budget, after the `start` of this process, at which something is done once."""

    def __init__(self, shares: Sequence[float], start: float) -> None:
        self.shares = [share for share in shares if share > start]

    def pop(self, share: float) -> list[float]:
        """Remove and return the milestones that have been reached."""
        reached = [milestone for milestone in self.shares if milestone <= share]
        self.shares = self.shares[len(reached):]
        return reached
