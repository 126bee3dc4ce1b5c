"""A value for each setting that was left open, with the reason for it."""

from __future__ import annotations

import math
from typing import Any

from ornstein.data import Dataset
from ornstein.diffusion.linear import MAX_SIDE
from ornstein.machine import can_compile, has_bf16
from ornstein.networks import choose_network
from ornstein.settings import Settings
from ornstein.workers import worker_count

__all__ = ["MINUTES", "Choices"]

SAMPLES_PER_VALUE = 4  # from which the covariance is known well
MIN_ROWS = 16  # of a batch that keep a worker busy
SMALL_SIDE = 16  # of a picture, up to which its pixels are few enough for a covariance
COMPILE_MINUTES = 4.0  # from which half a minute of compilation pays off: it saves a quarter to a third of a step
LARGE_MINUTES = 4.0  # from which a network twice as large is better
MINUTES, POINT_MINUTES = 10.0, 1 / 3  # of training if the user names no budget; of points in the plane

Choice = tuple[Any, str]  # a value, and the reason for it; no reason if there is nothing to tell the user


class Choices:
    """The choices for one training.

    Each method is named after a setting and is used where that is open; `network`, `options` and `minutes` are always
    used.
    """

    def __init__(self, settings: Settings, data: Dataset, device: str) -> None:
        self.settings, self.data, self.device = settings, data, device
        self.shape, self.training_count = data.spec.shape, int((~data.held).sum())
        self.is_plane = self.shape == (2,)  # whose training takes seconds
        self.is_image = len(self.shape) == 3  # also of fields
        self.is_picture = self.is_image and data.spec.kind == "picture"
        self.is_large = self.is_image and min(self.shape[1:]) > SMALL_SIDE
        default = POINT_MINUTES if self.is_plane else MINUTES
        self.available = settings.minutes or (default if settings.images is None else None)
        self.size = 2 if device == "cuda" else int((self.available or 0) >= LARGE_MINUTES)
        self.network_name, self.network_options = choose_network(self.shape, settings.network, self.size)

    def all(self) -> dict[str, Choice]:
        """The value of every setting that may be left open, with a reason if it was."""
        found = {"network": self.network(), "options": (self.options(), ""), "minutes": self.minutes()}
        for name in ("label_dropout", "precision", "linear", "density", "batch", "learning_rate", "processes",
                     "threads", "compile"):
            found[name] = self.chosen(name)
        return found

    def chosen(self, name: str) -> Choice:
        """The value of a setting, chosen if it is open."""
        value = getattr(self.settings, name)
        return getattr(self, name)() if value in (None, "auto") else (value, "")

    def network(self) -> Choice:
        """The network that suits the shape of the samples."""
        kind = f"samples of {' x '.join(map(str, self.shape))}"
        return self.network_name, f"which suits {kind}" if self.settings.network == "auto" else ""

    def options(self) -> dict[str, Any]:
        """The options of the network."""
        linear, _ = self.chosen("linear")
        sees_guess = linear == ("waves" if self.is_large else "principal") and (self.is_large or self.is_picture)
        # A network that sees the guess does not have to learn first what is added to its output.
        return self.network_options | ({"hints": True} if self.network_name == "unet" and sees_guess else {})

    def minutes(self) -> Choice:
        """The budget, unless it is in pictures."""
        is_open = self.settings.minutes is None and self.available
        return self.available, "because no budget was given" if is_open else ""

    def label_dropout(self) -> Choice:
        """The share of labels that are hidden from the network, which learns to draw without one too."""
        if self.is_plane:
            return 0.5, "because figures of points show all classes at once"
        return self.settings.unlabelled, ""

    def precision(self) -> Choice:
        """The precision of matrix products."""
        if self.is_plane:
            return "fp32", "because points are learned better with 32-bit numbers"
        if has_bf16(self.device):
            return "bf16", f"because this {self.device} is faster with 16-bit numbers"
        return "fp32", f"because this {self.device} cannot multiply 16-bit numbers"

    def linear(self) -> Choice:
        """The linear guess that the network corrects."""
        values = math.prod(self.shape)
        # A covariance from fewer samples than it has rows is mostly noise; variances alone are not.
        if self.training_count >= SAMPLES_PER_VALUE * values and not self.is_large:
            return "principal", (f"a Gaussian guess that the network corrects: {self.training_count:,} samples "
                                 f"determine the covariance of {values} values")
        # Traces, volumes and larger pictures have nearly stationary statistics: cosine waves are almost independent.
        is_stationary = self.is_large or (self.data.spec.kind == "array" and len(self.shape) > 1)
        if is_stationary and max(self.shape[1:], default=0) <= MAX_SIDE:
            return "waves", ("a guess in cosine waves that the network corrects: samples are statistically alike "
                             "everywhere")
        return "diagonal", (f"a guess for each value alone, which the network corrects: {self.training_count:,} "
                            "samples are too few for a covariance")

    def density(self) -> Choice:
        """The noise levels that are trained most."""
        if self.is_picture and self.data.spec.bins:
            return "mixed", "a third of the training at the low noise levels that decide the grain of pictures"
        return "angle", "all noise levels alike"

    def batch(self) -> Choice:
        """Samples in a step."""
        if self.is_large and self.device == "cpu":
            return 64, "for more steps in the same time"
        if self.device == "cuda":
            return 256, "because a GPU is idle with less"
        if self.is_plane:
            return 256, "because points cost next to nothing"
        return 128, "because samples this small make short steps"

    def learning_rate(self) -> Choice:
        """The highest learning rate."""
        if self.is_large:
            return (1e-3 if self.size == 2 else 2e-3), ""
        return (4e-3 if self.is_picture else 2e-3), ""

    def processes(self) -> Choice:
        """The largest number of processes that have a core each, share a batch evenly and have enough to do."""
        if self.device != "cpu" or len(self.shape) == 1 or self.settings.threads is not None:
            return 1, ""
        batch, _ = self.chosen("batch")
        count = max(count for count in range(1, worker_count() + 1)
                    if count == 1 or (batch % count == 0 and batch >= MIN_ROWS * count))
        return count, "one for each core" if count > 1 else ""

    def threads(self) -> Choice:
        """Threads of a process."""
        if len(self.shape) > 1 or self.device == "cuda":
            return None, ""
        return 1, "because vectors are too small to share the work"

    def compile(self) -> Choice:
        """Whether the network is compiled."""
        minutes = self.available
        if not self.is_large or self.settings.parallel == "fsdp" or not minutes:
            return False, ""
        if can_compile(self.device) and minutes >= COMPILE_MINUTES:
            return True, f"because it takes half a minute and saves more than that in {minutes:g}"
        return False, "because the half minute that it takes would not pay off"
