"""The progress of a training: smoothed losses, and the lines of metrics.jsonl."""

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
MIN_INITIAL = 0.01  # the least that counts as that loss: data that are all alike start at their exact model
SMOOTHING = 0.05  # weight of a step's loss in the smoothed loss


class Journal:
    """The losses of a training, continued from a state's `metadata`, and its metrics on disk, if there is a `run`."""

    def __init__(self, run: Run | None, metadata: Mapping[str, Any]) -> None:
        self.run = run
        self._loss: float | None = metadata["loss"]
        self._smooth: Tensor | None = None
        self.held_out: float | None = metadata["held_out"]
        self.gap: float | None = metadata["gap"]
        self.initial_loss: float | None = metadata.get("start")  # of the average on training samples
        self._training_loss: float | None = None  # of the average, at the last evaluation
        self.learning_rate = 0.0
        self._rates: list[float] = []
        self._log_failed = False

    def record_step(self, loss: Tensor, learning_rate: float) -> None:
        """Record the loss of a step, NaN if it was skipped, without waiting for the device."""
        self.learning_rate = learning_rate
        self._rates.append(learning_rate)
        if self._smooth is None:
            self._smooth = torch.full_like(loss, math.nan if self._loss is None else self._loss)
        # Smoothed over steps, not seconds, so that a repeated run has the same loss.
        smoothed = torch.where(self._smooth.isnan(), loss, self._smooth.lerp(loss, SMOOTHING))
        self._smooth = torch.where(loss.isfinite(), smoothed, self._smooth)

    def loss(self, engine: Engine) -> float | None:
        """The smoothed loss over all processes, which must all call this; None before the first usable step."""
        if self._smooth is not None:
            loss = engine.mean([float(self._smooth)])[0]
            self._loss = None if math.isnan(loss) else loss
        return self._loss

    def record_evaluation(self, training: float, held_out: float | None) -> None:
        """Record the average's loss on training and held-out samples; TrainingFailed if one is not finite."""
        worst = max(training, training if held_out is None else held_out, key=lambda loss: (math.isnan(loss), loss))
        if not math.isfinite(worst):
            raise TrainingFailed(f"the averaged model has diverged: its loss is {worst}; the last checkpoint is kept, "
                                 "start again with a lower learning_rate")
        self.held_out, self.gap = held_out, None if held_out is None else held_out - training
        self._training_loss = training

    @property
    def has_diverged(self) -> bool:
        """Whether the averaged model is much worse than before the first step."""
        loss, initial = self._training_loss, self.initial_loss
        return loss is not None and initial is not None and loss > DIVERGED * max(initial, MIN_INITIAL)

    def check_divergence(self) -> None:
        """Raise TrainingFailed if the training has diverged."""
        if self.has_diverged:
            raise TrainingFailed(f"the training has diverged: the training loss is {self._training_loss:.3g} and was "
                                 f"{self.initial_loss:.3g} before the first step; its checkpoint is kept, train again "
                                 "with a lower learning_rate")

    def metadata(self) -> dict[str, float | None]:
        """The part of a state's metadata that continues the journal."""
        return {"start": self.initial_loss, "held_out": self.held_out, "gap": self.gap}

    def metrics(self, images: int) -> dict[str, float | None]:
        """The metrics that a finished model stores."""
        return {"images": images, "loss": self._loss, "held_out": self.held_out, "gap": self.gap}

    def log(self, learner: Learner, seconds: float, rate: float) -> str | None:
        """Append a line to the metrics; return a warning when writing first fails."""
        # With a budget of minutes the learning rates do not follow from the settings: every step's rate is logged.
        rates = {"learning_rates": self._rates} if learner.settings.images is None else {}
        self._rates = []
        return self._append(images=learner.images, loss=self._loss, held_out=self.held_out, gap=self.gap,
                            learning_rate=self.learning_rate, seconds=round(seconds, 3),
                            images_per_second=round(rate, 1), waited=round(learner.loader.seconds_waited, 3),
                            skipped=learner.skipped, **rates)

    def resume(self, learner: Learner, loss: float | None) -> str | None:
        """Append the line of a resumed training; return a warning as `log` does."""
        return self._append(images=learner.images, loss=loss, resumed_at=learner.images, processes=learner.engine.world)

    def _append(self, **fields: Any) -> str | None:
        if not self.run:
            return None
        try:
            self.run.log(**fields)
        except OSError as error:
            warned, self._log_failed = self._log_failed, True
            return None if warned else f"no line of metrics: {error}; the training goes on without"
        self._log_failed = False
        return None
