"""Small sets of points in the plane."""

from __future__ import annotations

import numpy as np

from ornstein.data.dataset import Dataset, hold_out
from ornstein.data.spec import DataSpec

__all__ = ["load_mixture", "load_moons"]

POINTS = 8000


def load_moons() -> Dataset:
    """Return 8,000 points (2,) on two interleaved half circles of radius 1, with noise of standard deviation 0.05."""
    from sklearn.datasets import make_moons

    points, labels = make_moons(POINTS, noise=0.05, random_state=0)
    return _planar_dataset("moons", np.asarray(points), np.asarray(labels), ("upper", "lower"))


def load_mixture() -> Dataset:
    """Return 8,000 points (2,) from 8 Gaussians of standard deviation 0.1 on a circle of radius 1, 1,000 from each."""
    labels = np.arange(POINTS) % 8
    angle = 2 * np.pi * labels / 8
    noise = np.random.default_rng(0).normal(0, 0.1, (POINTS, 2))
    return _planar_dataset("mixture", np.stack([np.cos(angle), np.sin(angle)], 1) + noise, labels, tuple("01234567"))


def _planar_dataset(name: str, points: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    values = points.astype(np.float32)
    # One range for both axes keeps the proportions.
    spec = DataSpec(name, "array", (2,), float(values.min()), float(values.max()), None, classes)
    held, notes = hold_out(len(values))
    return Dataset(values, labels.astype(np.int64), held, spec, notes)
