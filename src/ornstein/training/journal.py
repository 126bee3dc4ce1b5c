"""What a training knows of its own progress: smoothed losses, and the lines of metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.training.engine import Engine
from ornstein.training.events import TrainingFailed
from ornstein.training.learner import Learner
from ornstein.training.run import Run

__all__ = ["Journal"]

DIVERGED = 2.0  # times the loss before the first step
SMOOTHING = 0.05  # weight of a step's loss in the one that is shown


class Journal:
    """Losses of a run since the `note` of its state, and its metrics on disk if there is a `run`."""

    def __init__(self, run: Run | None, note: Mapping[str, Any]) -> None:
        self.run = run
        self._loss: float | None = note["loss"]
        self._smooth: Tensor | None = None
        self.held_out: float | None = note["held_out"]
        self.gap: float | None = note["gap"]
        self.start: float | None = note.get("start")  # loss of the average on samples trained on, before the first step
        self._trained: float | None = None  # and at the last look
        self.learning_rate = 0.0
        self._rates: list[float] = []
        self._refused = False

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """Take note of a step's loss, NaN if it is of no use; it is not read: the device may not have it yet."""
        self.learning_rate = learning_rate
        self._rates.append(learning_rate)
        if self._smooth is None:
            self._smooth = torch.full_like(loss, math.nan if self._loss is None else self._loss)
        # Smoothed over steps, never over seconds: the loss is part of what a run repeats.
        after = torch.where(self._smooth.isnan(), loss, self._smooth.lerp(loss, SMOOTHING))
        self._smooth = torch.where(loss.isfinite(), after, self._smooth)

    def loss(self, engine: Engine) -> float | None:
        """The smoothed loss over all processes, each of which must ask; None before the first step of use."""
        if self._smooth is not None:
            loss = engine.mean([float(self._smooth)])[0]
            self._loss = None if math.isnan(loss) else loss
        return self._loss

    def look(self, trained: float, held_out: float | None) -> None:
        """Take note of the average's loss on samples trained on and held out; TrainingFailed for one that is not
        finite."""
        worst = max(trained, trained if held_out is None else held_out, key=lambda loss: (math.isnan(loss), loss))
        if not math.isfinite(worst):
            raise TrainingFailed(f"the averaged model has diverged: its loss is {worst}; the last checkpoint is kept, "
                                 "start again with a lower learning_rate")
        self.held_out, self.gap = held_out, None if held_out is None else held_out - trained
        self._trained = trained

    @property
    def diverged(self) -> bool:
        """Whether the model is worse than the one that the training began with."""
        return self.start is not None and self._trained is not None and self._trained > DIVERGED * self.start

    def judge(self) -> None:
        """Raise TrainingFailed if the training has diverged."""
        if self.diverged:
            raise TrainingFailed(f"the training has diverged: the training loss is {self._trained:.3g} and was "
                                 f"{self.start:.3g} before the first step; its checkpoint is kept, train again with a "
                                 "lower learning_rate")

    def note(self) -> dict[str, float | None]:
        """What a state keeps of the looks at the average."""
        return {"start": self.start, "held_out": self.held_out, "gap": self.gap}

    def metrics(self, images: int) -> dict[str, float | None]:
        """What a finished model tells of its training."""
        return {"images": images, "loss": self._loss, "held_out": self.held_out, "gap": self.gap}

    def log(self, learner: Learner, seconds: float, rate: float) -> str | None:
        """Append a line to the metrics; what went wrong, if the disk refuses for the first time."""
        # By the clock the learning rates cannot be told from the settings: those of all steps are kept.
        rates = {"learning_rates": self._rates} if learner.settings.images is None else {}
        self._rates = []
        return self._line(images=learner.images, loss=self._loss, held_out=self.held_out, gap=self.gap,
                          learning_rate=self.learning_rate, seconds=round(seconds, 3), images_per_second=round(rate, 1),
                          waited=round(learner.loader.waited, 3), skipped=learner.skipped, **rates)

    def resume(self, learner: Learner, loss: float | None) -> str | None:
        """Append the line of a training that goes on; what went wrong, as `log` says it."""
        return self._line(images=learner.images, loss=loss, resumed_at=learner.images, processes=learner.engine.world)

    def _line(self, **facts: Any) -> str | None:
        if not self.run:
            return None
        try:
            self.run.log(**facts)
        except OSError as error:
            said, self._refused = self._refused, True
            return None if said else f"no line of metrics: {error}; the training goes on without"
        self._refused = False
        return None
