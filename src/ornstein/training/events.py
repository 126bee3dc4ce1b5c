"""What a training tells whoever listens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.settings import Settings

__all__ = ["Event", "Finished", "Interrupted", "Progress", "Saved", "Started"]


@dataclass(frozen=True)
class Started:
    """The run begins: its settings and size, notes on the data, and the pictures already seen if it goes on."""

    settings: Settings
    parameters: int
    samples: int
    held_out: int
    device: str
    notes: tuple[str, ...]
    resumed_at: int | None


@dataclass(frozen=True)
class Progress:
    """How far it is: pictures seen, share of the budget, losses, pictures a second, seconds used and left."""

    images: int
    share: float
    loss: float
    held_out: float | None
    rate: float
    learning_rate: float
    seconds: float
    left: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk."""

    path: Path
    images: int


@dataclass(frozen=True)
class Interrupted:
    """The run was asked to stop; its state is saved if it has a folder."""

    images: int


@dataclass(frozen=True)
class Finished:
    """The budget is used up, by this call or (`already`) by an earlier one."""

    model: NetworkDenoiser
    images: int
    seconds: float
    already: bool


Event = Started | Progress | Saved | Interrupted | Finished
