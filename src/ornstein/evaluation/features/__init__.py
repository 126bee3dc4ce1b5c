"""Feature spaces by name: what samples are turned into before sets of them are compared."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ornstein.arguments import require
from ornstein.data.dataset import Dataset
from ornstein.evaluation.features.given import GIVEN, Given, file_of
from ornstein.evaluation.features.network import Network
from ornstein.evaluation.features.pixels import MOST, Pixels
from ornstein.evaluation.features.space import Features

__all__ = ["Features", "check", "features", "known"]


def known(which: str) -> tuple[str, str, str]:
    """A feature space's name in its parts, "inception=FILE" as ("inception", "=", "FILE")."""
    name, equals, path = which.partition("=")
    return require("features", name, ["pixels", "network", *GIVEN]), equals, path


def check(which: str) -> None:
    """Refuse a feature space that does not exist, or whose file is missing, before any time is spent."""
    name, _, path = known(which)
    if name in GIVEN:
        file_of(name, path or None)


def features(which: str, training: Dataset, *, seed: int = 0, most: int = MOST, state: dict[str, Tensor] | None = None,
             tell: Callable[[float], None] | None = None) -> Features:
    """Return a feature space by its name, fitted or trained on the training rows where it has to be.

    "pixels" are the values or at `most` so many principal components; "network" is a small network trained here;
    "inception" and "dinov2" are TorchScript files in the cache folder, or named as in "inception=FILE". Such a file is
    a program: name only one that you trust. `state` is what the same features learnt before (`Features.state`).
    """
    name, _, path = known(which)
    if name in GIVEN:
        return Given(name, path or None, training.spec)
    if "=" in which:
        raise ValueError(f"features {which!r} name a file; only {' and '.join(GIVEN)} are read from one")
    return Pixels(training, seed, most) if name == "pixels" else Network(training, seed, state, tell)
