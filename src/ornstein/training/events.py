"""What a training tells whoever listens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.settings import Settings

__all__ = ["Drawn", "Event", "Failed", "Finished", "Interrupted", "Noted", "Progress", "Saved", "Started",
           "TrainingFailed", "Warned"]


class TrainingFailed(RuntimeError):
    """A training that cannot go on, and that starting again would not help."""


@dataclass(frozen=True)
class Started:
    """The run begins, or goes on.

    Its settings and size, notes on the data, the pictures seen at the state that it goes on from (whatever was told
    after that is void), reasons for what was chosen for the user, and its folder, if it has one.
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
    """What goes on, in a sentence."""

    text: str


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Pictures seen, share of the budget, loss of the steps (None before a usable one), loss of the average on samples
    held out and by how much that is above the average's loss on samples trained on (None before the first look),
    pictures a second, seconds used and left, and steps skipped because their gradient was not finite.
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
        """What is known, by its name in metrics.jsonl; no rate is measured over the end of a training."""
        values = {"loss": self.loss, "held_out": self.held_out, "gap": self.gap, "learning_rate": self.learning_rate,
                  "images_per_second": self.rate or None, "seconds": self.seconds, "skipped": self.skipped}
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Warned:
    """Something went wrong that the training survives."""

    text: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk."""

    path: Path
    images: int


@dataclass(frozen=True)
class Drawn:
    """Samples have been drawn: PNG files by what they show, "samples" and perhaps "statistics"."""

    images: int
    pictures: dict[str, Path]


@dataclass(frozen=True)
class Interrupted:
    """The run was asked to stop; its state is saved if it has a folder."""

    images: int


@dataclass(frozen=True)
class Failed:
    """The training has ended with an exception, in a sentence; for trackers, everyone else gets the exception."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The budget is used up, by this call or (`already`) by an earlier one."""

    model: NetworkDenoiser
    images: int
    seconds: float
    already: bool


Event = Started | Noted | Progress | Warned | Saved | Drawn | Interrupted | Failed | Finished
