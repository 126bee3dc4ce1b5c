"""A set of samples, in memory or not, with the rows that are held out of training."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, Protocol

import numpy as np
import torch

from ornstein.data.spec import DataSpec

__all__ = ["Dataset", "RowView", "Values", "ValuesDigest", "check_conditions", "check_finite", "digest_values",
           "hold_out", "parts"]

COPIED = 2**28  # bytes of an array in memory, at most, whose parts are copies


class Values(Protocol):
    """What a set's values are: an array, a memory map, or a decoder that makes rows when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape of one sample)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Return the rows of an int array or of a slice, (B, *shape)."""


class RowView:
    """Some rows of values, (M,) by number, which are not copied."""

    def __init__(self, values: Values, rows: np.ndarray) -> None:
        self.values, self.rows = values, rows
        self.shape, self.dtype = (len(rows), *values.shape[1:]), values.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        return self.values[self.rows[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.values[self.rows], dtype=dtype)


@dataclass(eq=False)
class Dataset:
    """A set of samples in source values, in memory or read when they are asked for.

    Args:
        values: (N, *spec.shape) bool, whole or floating numbers in source values, N >= 1, finite: an array, a memory
            map, or any object with `shape`, `dtype`, `len()` and `values[rows]` for int arrays and slices.
        labels: (N,) int64 class indices, -1 for none.
        held: (N,) bool, True for the rows held out of training.
        spec: what the values mean; which classes are empty is counted here.
        notes: sentences for the user on what was done to the source.
        skipped: "path: reason" for each file that was left out.
        conditions: (N, K) float32 or float64 vector conditions, K = len(spec.conditions) >= 1, a row of NaN for none;
            None where the set has no such conditions.
        values_digest: SHA-256 (hex) of the values where the source knows it, and with it that they are finite;
            they are not read to the end then.
        streamed: whether the values are made anew each time, so that they are better read ahead (`stream`).
        names: (N,) what people call each row, such as a file's name; None where rows have no names.

    Raises:
        ValueError: types, shapes or lengths that disagree, no samples, values that are not finite, unknown labels.
    """

    values: Values
    labels: np.ndarray
    held: np.ndarray
    spec: DataSpec
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    conditions: np.ndarray | None = None
    values_digest: str | None = None
    streamed: bool = False
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        rows = len(self.values)
        if rows == 0:
            raise ValueError(f"data {self.spec.name!r} holds 0 samples; at least 1 is needed")
        if self.values.dtype.kind not in "biuf":
            raise ValueError(f"values is {self.values.dtype}; it must be bool, whole or floating numbers")
        wanted = {"values": ((rows, *self.spec.shape), self.values.dtype.name), "labels": ((rows,), "int64"),
                  "held": ((rows,), "bool")}
        if self.conditions is not None:
            fine = self.conditions.dtype.name == "float64"
            wanted["conditions"] = (rows, len(self.spec.conditions)), "float64" if fine else "float32"
        for name, (shape, kind) in wanted.items():
            array = getattr(self, name)
            if tuple(array.shape) != shape or array.dtype.name != kind:
                raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; it must be {kind} of shape {shape}")
        if (self.conditions is None) != (self.spec.conditions == ()):
            raise ValueError(f"data spec conditions is {self.spec.conditions}; it must name each column of the "
                             "conditions, and be () without")
        if self.values_digest is None:
            check_finite("values", self.values)
        if self.conditions is not None:
            check_conditions("conditions", self.conditions)
        count = len(self.spec.classes)
        wrong = np.flatnonzero((self.labels < -1) | (self.labels >= count))
        if wrong.size:
            allowed = f"-1 (none) or 0..{count - 1}" if count else "-1 (none), for there are no classes"
            raise ValueError(f"label {self.labels[wrong[0]]} in row {wrong[0]} is out of range; it must be {allowed}")
        if count:
            there = np.unique(self.labels[~self.held])
            empty = tuple(np.setdiff1d(np.arange(count), there).tolist())
            if len(empty) == count:  # of no row is anything known
                self.labels, self.spec = np.full_like(self.labels, -1), replace(self.spec, classes=(), empty=())
            elif empty != self.spec.empty:
                self.spec = replace(self.spec, empty=empty)

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, index: Sequence[int] | np.ndarray | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the samples in the rows `index`, encoded, and their labels or vector conditions.

        Args:
            index: (B,) whole numbers, each a row of the set.

        Returns:
            (B, *shape) float32, in [-1, 1] but for values far from all others; and (B,) int64 labels, -1 for none, or
            (B, K) floats, the conditions, where the set has them, a row of NaN for none.

        Raises:
            ValueError: an index that is not a list of whole numbers.
            IndexError: a row that is not there.
        """
        rows = np.asarray(index)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(f"index is {rows.dtype} of shape {rows.shape}; it must be a list of whole numbers")
        beside = self.labels if self.conditions is None else self.conditions
        return self.spec.encode(self.values[rows]), torch.from_numpy(beside[rows])

    def split(self) -> tuple[Dataset, Dataset]:
        """Return the rows for training and the rows held out, views where they are many; the second may be empty."""
        return self._part(~self.held), self._part(self.held)

    def _part(self, mask: np.ndarray) -> Dataset:
        # A shallow copy: rows that were checked once need no second check, and an empty part is allowed here.
        part = copy.copy(self)
        if not mask.all():
            # A small array stays one, which is what most callers want to calculate with; others are not copied.
            small = type(self.values) is np.ndarray and self.values.nbytes <= COPIED
            part.values = self.values[mask] if small else RowView(self.values, np.flatnonzero(mask))
            part.values_digest = None
            part.labels, part.held = self.labels[mask], self.held[mask]
            part.conditions = None if self.conditions is None else self.conditions[mask]
            part.names = None if self.names is None else list(compress(self.names, mask.tolist()))
        part.notes, part.skipped = list(self.notes), list(self.skipped)
        return part

    def digest(self) -> str:
        """Return the SHA-256 (hex) of values, labels and conditions: another digest is other data."""
        seen = hashlib.sha256((self.values_digest or digest_values(self.values)).encode())
        seen.update(np.ascontiguousarray(self.labels).data)
        if self.conditions is not None:
            seen.update(np.ascontiguousarray(self.conditions).data)
        return seen.hexdigest()


def hold_out(count: int) -> tuple[np.ndarray, list[str]]:
    """Return which of `count` rows are held out, (count,) bool, and a note when none is: the last min(count // 10,
    2000) entries of a fixed permutation, the same rows in every run."""
    held = np.zeros(count, dtype=bool)
    held[np.random.default_rng(0).permutation(count)[count - min(count // 10, 2000):]] = True
    return held, [] if held.any() else [f"nothing is held out: {count} samples are fewer than 10"]


def check_finite(name: str, values: Values) -> None:
    """Refuse values that are NaN or infinite, with their count and the first row."""
    if values.dtype.kind != "f":
        return
    wrong = np.concatenate([(~np.isfinite(part)).reshape(len(part), -1).sum(1) for part in parts(values)])
    if wrong.any():
        raise ValueError(f"{name} has {wrong.sum()} values that are not finite, the first in row "
                         f"{wrong.nonzero()[0][0]}; every value must be a finite number")


def check_conditions(name: str, conditions: np.ndarray) -> None:
    """Refuse (N, K) vector conditions that are neither finite nor NaN in the whole row."""
    wrong = np.flatnonzero(~(np.isfinite(conditions).all(1) | np.isnan(conditions).all(1)))
    if wrong.size:
        raise ValueError(f"{name} has {wrong.size} rows that are neither finite nor all NaN (which means none), "
                         f"the first is row {wrong[0]}")


class ValuesDigest:
    """The SHA-256 of rows that come one part after the other: of their numbers, then of type and shape."""

    def __init__(self) -> None:
        self._seen, self._rows, self._rest = hashlib.sha256(), 0, ""

    def update(self, part: np.ndarray) -> None:
        """Take the next rows, (B, ...), whatever their order in memory."""
        self._seen.update(np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("=")).data)
        self._rows, self._rest = self._rows + len(part), f"{part.shape[1:]} {part.dtype.name}"

    def hexdigest(self) -> str:
        """Return the digest of all rows so far."""
        whole = self._seen.copy()
        whole.update(f"{self._rows} {self._rest}".encode())
        return whole.hexdigest()


def digest_values(values: Values) -> str:
    """Return the SHA-256 (hex) of numbers, type and shape, whatever their order in memory."""
    seen = ValuesDigest()
    for part in parts(values):
        seen.update(part)
    return seen.hexdigest()


def parts(values: Values) -> Iterator[np.ndarray]:
    """Yield all rows in order, some 4 million numbers at a time, for a set may fill the memory or the disk."""
    step = max(1, 2**22 // max(1, int(np.prod(values.shape[1:]))))
    return (values[start:start + step] for start in range(0, len(values), step))
