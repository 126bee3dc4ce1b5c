"""How much of a training's budget is used, and what is due at which share of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ornstein.settings import Settings
from ornstein.training.engine import Engine
from ornstein.training.plan import MINUTES

__all__ = ["Budget", "Due", "Timetable", "Turn"]

LOG_SECONDS = 1.0  # between lines of metrics
SAVE_SHARE = 0.02  # of the time that may be spent on writing states
PREVIEWS = (0.1, 0.25, 0.5, 0.75)  # shares of the budget at which to draw samples; the last grid is drawn at the end
SHOWN = 0.05  # share of the time after which a preview is left out
LOOKS = (0.02, *PREVIEWS)  # and at which to take the losses of the average


class Budget:
    """A budget of pictures, or of wall clock less what the end of the training will need.

    `started` is `time.monotonic()` when it began to count, `note` of the state that the training goes on from.
    """

    def __init__(self, settings: Settings, started: float, note: Mapping[str, Any]) -> None:
        self.images, self.whole = settings.images, 60 * (settings.minutes or MINUTES)
        # A resumed budget goes on where its checkpoint was written; what a new start of the same job lost counts too.
        self.origin = min(started, time.monotonic() - note["seconds"])
        self.tail = note["tail"]  # seconds that the end will need
        self.prelude = note.get("prelude", 0.0)  # seconds before the first step

    def begin(self, engine: Engine) -> None:
        """Take note of what has passed before the first step."""
        self.prelude = min(engine.most([self.seconds])[0], self.whole / 2)

    def looked(self, seconds: float) -> None:
        """Take note of what a look at the training took: as much again is needed at the end, and a checkpoint."""
        self.tail = max(self.tail, 1.2 * seconds)

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


@dataclass(frozen=True)
class Turn:
    """What is due before a step, the same in every process."""

    share: float  # of the budget that is used
    rate: float | None  # pictures a second since the last line of progress, if another one is due
    look: bool  # at the losses of the average
    preview: bool
    snapshot: bool
    save: bool
    stop: bool
    compiled: bool


class Timetable:
    """When lines of progress, looks, previews, snapshots and states are due, by the first process's clock.

    It counts from `images` seen; a run without a folder keeps no snapshots.
    """

    def __init__(self, budget: Budget, settings: Settings, engine: Engine, images: int, keeps: bool) -> None:
        self.budget, self.settings, self.engine = budget, settings, engine
        self.first = self.seen = images
        # With split weights all processes must look at the same time.
        begun = engine.most([budget.share(images) if engine.first else 0.0])[0]
        kept = settings.snapshots if keeps else 0
        self.looks, self.snapshots = Due(LOOKS, begun), Due([place / kept for place in range(1, kept + 1)], begun)
        self.now = self.logged = self.last_saved = time.monotonic()
        self.patience, self.shown = settings.save_seconds, 0.0

    def turn(self, images: int, stopping: bool, compiled: bool) -> Turn:
        """What is due after so many pictures; a wish to stop is every process's."""
        self.now, ours, moved = time.monotonic(), float(self.engine.first), images > self.first
        share, log, save, stop, done = self.engine.most([
            ours * self.budget.share(images), ours * (self.now - self.logged >= LOG_SECONDS),
            ours * (self.now - self.last_saved >= self.patience), float(stopping), float(compiled)])
        rate = None
        if log or images == self.first + self.settings.batch_size:
            rate = (images - self.seen) / (self.now - self.logged)
            self.seen, self.logged = images, self.now
        reached = self.looks(share)
        return Turn(share, rate, bool(reached), not {*reached}.isdisjoint(PREVIEWS),
                    moved and bool(self.snapshots(share)), moved and bool(stop or save), bool(stop), bool(done))

    def may_draw(self) -> bool:
        """Whether previews have not cost too much so far."""
        return bool(self.engine.most([float(self.engine.first and self.shown <= SHOWN * self.budget.seconds)])[0])

    def drawn(self, seconds: float) -> None:
        """Take note of what a preview has cost."""
        self.shown += seconds

    def saved(self) -> None:
        """Take note of a state that has been written: the next one waits the longer, the longer it took."""
        self.last_saved = time.monotonic()
        self.patience = max(self.settings.save_seconds, (self.last_saved - self.now) / SAVE_SHARE)


class Due:
    """What is to be done once at each of some shares of the budget, later than where the training goes on."""

    def __init__(self, shares: Sequence[float], begun: float) -> None:
        self.shares = [share for share in shares if share > begun]

    def __call__(self, share: float) -> list[float]:
        """The shares that have been reached since it was last asked."""
        reached = [mark for mark in self.shares if mark <= share]
        self.shares = self.shares[len(reached):]
        return reached
