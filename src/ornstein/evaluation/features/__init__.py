"""Feature spaces by name: what samples are turned into before sets of them are compared."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ornstein.data.dataset import Dataset
from ornstein.evaluation.features.given import GIVEN, Given, file_of
from ornstein.evaluation.features.network import Network
from ornstein.evaluation.features.pixels import MOST, Pixels
from ornstein.evaluation.features.space import Features
from ornstein.names import require

__all__ = ["Features", "check", "features", "known"]


def known(which: str) -> tuple[str, str, str]:
    """A name of a feature space in its parts, "inception=FILE" as ("inception", "=", "FILE").

    Raises:
        ValueError: an unknown name.
    """
    name, equals, path = which.partition("=")
    return require("features", name, ["pixels", "network", *GIVEN]), equals, path


def check(which: str) -> None:
    """Refuse a feature space that there is not, before any time is spent.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: its file is not there.
    """
    name, _, path = known(which)
    if name in GIVEN:
        file_of(name, path or None)


def features(which: str, training: Dataset, *, seed: int = 0, most: int = MOST, state: dict[str, Tensor] | None = None,
             tell: Callable[[float], None] | None = None) -> Features:
    """Return a feature space by its name, fitted or trained on the training rows where it has to be.

    Args:
        which: "pixels", the values or their principal components; "network", of a small network trained here;
            "inception" or "dinov2", of a TorchScript file in the cache folder, or "inception=FILE", "dinov2=FILE". Such
            a file is a program: name only one that you trust.
        training: the rows that a model was trained on, without those held out (`Dataset.split`).
        seed: of what is drawn at random; the same seed gives the same features bit for bit on one machine with as
            many threads.
        most: principal components of "pixels"; fewer are better where few rows are compared.
        state: what the same features of the same rows learnt before (`Features.state`).
        tell: called with the share that is done.

    Raises:
        ValueError: an unknown name, too few training rows, training rows that are all alike, or data that the file
            cannot take.
        FileNotFoundError: the file is not there.
    """
    name, _, path = known(which)
    if name in GIVEN:
        return Given(name, path or None, training.spec)
    if "=" in which:
        raise ValueError(f"features {which!r} name a file; only {' and '.join(GIVEN)} are read from one")
    return Pixels(training, seed, most) if name == "pixels" else Network(training, seed, state, tell)
