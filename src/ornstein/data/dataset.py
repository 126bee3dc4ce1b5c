"""A set of samples in memory, with the rows that are held out of training."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ornstein.data.spec import DataSpec

__all__ = ["Dataset", "check_finite", "hold_out"]


@dataclass(eq=False)
class Dataset:
    """An in-memory set of samples in source values.

    Args:
        values: (N, *spec.shape) uint8 or float32 in source values, N >= 1, finite.
        labels: (N,) int64 class indices, -1 for none.
        held: (N,) bool, True for the rows held out of training.
        spec: what the values mean.
        notes: sentences for the user on what was done to the source.
        skipped: "path: reason" for each file that was left out.

    Raises:
        ValueError: types, shapes or lengths that disagree, no samples, values that are not finite, unknown labels.
    """

    values: np.ndarray
    labels: np.ndarray
    held: np.ndarray
    spec: DataSpec
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = len(self.values)
        if rows == 0:
            raise ValueError(f"data {self.spec.name!r} holds 0 samples; at least 1 is needed")
        wanted = {"values": ((rows, *self.spec.shape), ("uint8", "float32")), "labels": ((rows,), ("int64",)),
                  "held": ((rows,), ("bool",))}
        for name, (shape, types) in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype.name not in types:
                raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; "
                                 f"it must be {' or '.join(types)} of shape {shape}")
        check_finite("values", self.values)
        count = len(self.spec.classes)
        wrong = np.flatnonzero((self.labels < -1) | (self.labels >= count))
        if wrong.size:
            allowed = f"-1 (none) or 0..{count - 1}" if count else "-1 (none), for there are no classes"
            raise ValueError(f"label {self.labels[wrong[0]]} in row {wrong[0]} is out of range; it must be {allowed}")

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, index: Sequence[int] | np.ndarray | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the samples in the rows `index`, encoded, and their labels.

        Args:
            index: (B,) whole numbers, each a row of the set.

        Returns:
            (B, *shape) float32 in [-1, 1] and (B,) int64 labels, -1 for none.

        Raises:
            ValueError: an index that is not a list of whole numbers.
            IndexError: a row that is not there.
        """
        rows = np.asarray(index)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(f"index is {rows.dtype} of shape {rows.shape}; it must be a list of whole numbers")
        return self.spec.encode(self.values[rows]), torch.from_numpy(self.labels[rows])

    def split(self) -> tuple[Dataset, Dataset]:
        """Return the rows for training and the rows held out; the second may be empty."""
        return self._part(~self.held), self._part(self.held)

    def _part(self, mask: np.ndarray) -> Dataset:
        # A shallow copy: rows that were checked once need no second check, and an empty part is allowed here.
        part = copy.copy(self)
        if not mask.all():
            part.values, part.labels, part.held = self.values[mask], self.labels[mask], self.held[mask]
        part.notes, part.skipped = list(self.notes), list(self.skipped)
        return part

    def digest(self) -> str:
        """Return the SHA-256 (hex) of shape, type, values and labels: another digest is other data."""
        seen = hashlib.sha256(f"{self.values.shape} {self.values.dtype.name}".encode())
        for array in (self.values, self.labels):
            for part in _parts(array):
                seen.update(np.ascontiguousarray(part).data)
        return seen.hexdigest()

    def mean_std(self, per_value: bool = False) -> tuple[float, float] | tuple[np.ndarray, np.ndarray]:
        """Return the mean and the standard deviation (divisor N) of the encoded data.

        Args:
            per_value: one of each for every value of a sample, instead of one over all.

        Returns:
            Two floats, or two float64 arrays of shape spec.shape.

        Raises:
            ValueError: the set is empty.
        """
        if not len(self):
            raise ValueError("an empty set has no mean; at least 1 sample is needed")

        def encoded() -> Iterator[np.ndarray]:
            return (self.spec.encode(part).double().numpy() for part in _parts(self.values))

        # Two passes: the sum of squares alone loses a small deviation around a large mean.
        mean, variance = np.zeros(self.spec.shape), np.zeros(self.spec.shape)
        for part in encoded():
            mean += part.sum(0) / len(self)
        for part in encoded():
            variance += ((part - mean) ** 2).sum(0) / len(self)
        if per_value:
            return mean, np.sqrt(variance)
        return float(mean.mean()), float(np.sqrt(variance.mean() + mean.var()))


def hold_out(count: int) -> tuple[np.ndarray, list[str]]:
    """Return which of `count` rows are held out of training, and the notes to that.

    The last min(count // 10, 2000) entries of a fixed permutation: the same rows in every run.

    Args:
        count: rows in the set, >= 1.

    Returns:
        (count,) bool, and a note when nothing is held out.
    """
    held = np.zeros(count, dtype=bool)
    held[np.random.default_rng(0).permutation(count)[count - min(count // 10, 2000):]] = True
    return held, [] if held.any() else [f"nothing is held out: {count} samples are fewer than 10"]


def check_finite(name: str, values: np.ndarray) -> None:
    """Refuse values that are NaN or infinite.

    Args:
        name: what the values are called in the message.
        values: (N, ...) numbers.

    Raises:
        ValueError: some are not finite; the message has their count and the first row.
    """
    if values.dtype.kind != "f":
        return
    wrong = np.concatenate([(~np.isfinite(part)).reshape(len(part), -1).sum(1) for part in _parts(values)])
    if wrong.any():
        raise ValueError(f"{name} has {wrong.sum()} values that are not finite, the first in row "
                         f"{wrong.nonzero()[0][0]}; every value must be a finite number")


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    # Some 16 MiB of float32 at a time: a set may fill half the memory.
    step = max(1, 2**22 // max(1, int(np.prod(values.shape[1:]))))
    return (values[start:start + step] for start in range(0, len(values), step))
