"""Feature spaces by name: samples are mapped to features before sets of them are compared."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ornstein.arguments import require
from ornstein.data.dataset import Dataset
from ornstein.evaluation.features.network import NetworkFeatures
from ornstein.evaluation.features.pixels import MAX_VALUES, PixelFeatures
from ornstein.evaluation.features.space import Features
from ornstein.evaluation.features.torchscript import SPACES, TorchScriptFeatures, file_path

__all__ = ["Features", "check_features", "features", "parse_name"]


def parse_name(name: str) -> tuple[str, str, str]:
    """The parts of a feature space's name: "inception=FILE" is ("inception", "=", "FILE")."""
    key, equals, path = name.partition("=")
    return require("features", key, ["pixels", "network", *SPACES]), equals, path


def check_features(name: str) -> None:
    """Refuse a feature space that does not exist, or whose file is missing, before any time is spent."""
    key, _, path = parse_name(name)
    if key in SPACES:
        file_path(key, path or None)


def features(name: str, training: Dataset, *, seed: int = 0, components: int = MAX_VALUES,
             state: dict[str, Tensor] | None = None, progress: Callable[[float], None] | None = None) -> Features:
    """Return a feature space by its name, fitted or trained on the training rows where needed.

    "pixels" are the values, or that many principal `components` at most; "network" is a small network trained here;
    "inception" and "dinov2" are TorchScript files in the cache folder, or named as in "inception=FILE". Such a file is
    a program: name only one that you trust. `state` is what the same features learned before (`Features.state`).
    """
    key, equals, path = parse_name(name)
    if key in SPACES:
        return TorchScriptFeatures(key, path or None, training.spec)
    if equals:
        raise ValueError(f"features {name!r} name a file; only {' and '.join(SPACES)} are read from one")
    return PixelFeatures(training, seed, components) if key == "pixels" else NetworkFeatures(
        training, seed, state, progress)
