"""The events of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.settings import Settings

__all__ = ["Drawn", "Event", "Failed", "Finished", "Interrupted", "Noted", "Progress", "Saved", "Started",
           "TrainingFailed", "Warned"]


class TrainingFailed(RuntimeError):
    """The training cannot go on, and a restart would not help."""


@dataclass(frozen=True)
class Started:
    """The run starts or resumes.

    Carries the settings, the sizes of network and data, notes on the data, the pictures seen at the state that a
    resumed run continues from (events after it are void), the reasons for automatic choices, and the run's folder, if
    it has one.
    """

    settings: Settings
    parameters: int
    samples: int
    held_out: int
    device: str
    notes: tuple[str, ...]
    resumed_at: int | None
    reasons: tuple[str, ...] = ()
    run: Path | None = None


@dataclass(frozen=True)
class Noted:
    """A note on what the training is doing, in one sentence."""

    text: str


@dataclass(frozen=True)
class Progress:
    """The state of the training, about once a second.

    Pictures seen, the share of the budget that is used, the smoothed training loss (None before the first usable
    step), the averaged model's loss on held-out samples and how far it lies above its loss on training samples (both
    None before the first evaluation), pictures per second, the learning rate, seconds used and left, and the steps
    skipped because their gradient was not finite.
    """

    images: int
    share: float
    loss: float | None
    held_out: float | None
    gap: float | None
    rate: float
    learning_rate: float
    seconds: float
    left: float
    skipped: int

    @property
    def figures(self) -> dict[str, float]:
        """The known values by their names in metrics.jsonl; the last event has no rate."""
        values = {"loss": self.loss, "held_out": self.held_out, "gap": self.gap, "learning_rate": self.learning_rate,
                  "images_per_second": self.rate or None, "seconds": self.seconds, "skipped": self.skipped}
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Warned:
    """Something went wrong, but the training goes on."""

    text: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk."""

    path: Path
    images: int


@dataclass(frozen=True)
class Drawn:
    """Samples have been drawn: PNG files by their content, "samples" and possibly "statistics"."""

    images: int
    pictures: dict[str, Path]


@dataclass(frozen=True)
class Interrupted:
    """The run stopped on request; its state is saved if it has a folder."""

    images: int


@dataclass(frozen=True)
class Failed:
    """The training ended with an exception, described in one sentence; only trackers receive this event."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The budget is used up, by this call or, with `already`, by an earlier one."""

    model: NetworkDenoiser
    images: int
    seconds: float
    already: bool


Event = Started | Noted | Progress | Warned | Saved | Drawn | Interrupted | Failed | Finished
