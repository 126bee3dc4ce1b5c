"""A set of samples, in memory or read on demand, with the rows held out of training."""

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

__all__ = ["Dataset", "RowView", "Values", "ValuesDigest", "check_conditions", "check_finite", "chunks",
           "digest_values", "hold_out"]

MAX_COPIED_BYTES = 2**28  # arrays up to this size are copied by `split`, larger ones are viewed


class Values(Protocol):
    """The values of a set: an array, a memory map, or a decoder that makes rows on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape of one sample)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Return the rows with the given indices or in a slice, (B, *shape)."""


class RowView:
    """The rows (M,) of values, without a copy."""

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
    """A set of samples in source values, in memory or read on demand.

    Args:
        values: (N, *spec.shape) bool, whole or floating-point source values, N >= 1, finite: an array, a memory map, or
            any object with `shape`, `dtype`, `len()` and `values[rows]` for int arrays and slices.
        labels: (N,) int64 class indices, -1 for none.
        held: (N,) bool, True for the rows held out of training.
        spec: the meaning of the values; its empty classes are recomputed.
        notes: sentences for the user about what was done to the source.
        skipped: "path: reason" for each file that was left out.
        conditions: (N, K) float32 or float64 vector conditions, K = len(spec.conditions) >= 1, a row of NaN for none;
            None if the set has no such conditions.
        values_digest: SHA-256 (hex) of the values if the source knows it; the values are then taken to be finite and
            are not read to check that.
        streamed: whether the values are decoded on each access, so that reading ahead pays (`stream`).
        names: (N,) display name of each row, such as a file name; None if rows have no names.

    Raises:
        ValueError: types, shapes or lengths disagree, there are no samples, values are not finite, or a label is
            unknown.
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
        expected = {"values": ((rows, *self.spec.shape), self.values.dtype.name), "labels": ((rows,), "int64"),
                    "held": ((rows,), "bool")}
        if self.conditions is not None:
            is_double = self.conditions.dtype.name == "float64"
            expected["conditions"] = (rows, len(self.spec.conditions)), "float64" if is_double else "float32"
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if tuple(array.shape) != shape or array.dtype.name != dtype:
                raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; it must be {dtype} of shape {shape}")
        if (self.conditions is None) != (self.spec.conditions == ()):
            raise ValueError(f"data spec conditions is {self.spec.conditions}; it must name each column of the "
                             "conditions, or be () if there are none")
        if self.values_digest is None:
            check_finite("values", self.values)
        if self.conditions is not None:
            check_conditions("conditions", self.conditions)
        count = len(self.spec.classes)
        wrong = np.flatnonzero((self.labels < -1) | (self.labels >= count))
        if wrong.size:
            allowed = f"-1 (none) or 0..{count - 1}" if count else "-1 (none), because there are no classes"
            raise ValueError(f"label {self.labels[wrong[0]]} in row {wrong[0]} is out of range; it must be {allowed}")
        if count:
            present = np.unique(self.labels[~self.held])
            empty = tuple(np.setdiff1d(np.arange(count), present).tolist())
            if len(empty) == count:  # no training row has a class
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
            (B, *shape) float32, in [-1, 1] except for outliers; and (B,) int64 labels, -1 for none, or the conditions,
            (B, K) floats, a row of NaN for none, if the set has them.

        Raises:
            ValueError: `index` is not a list of whole numbers.
            IndexError: a row is out of range.
        """
        rows = np.asarray(index)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(f"index is {rows.dtype} of shape {rows.shape}; it must be a list of whole numbers")
        conditions = self.labels if self.conditions is None else self.conditions
        return self.spec.encode(self.values[rows]), torch.from_numpy(conditions[rows])

    def split(self) -> tuple[Dataset, Dataset]:
        """Return the training rows and the held-out rows, as views if large; the second set may be empty."""
        return self._subset(~self.held), self._subset(self.held)

    def _subset(self, mask: np.ndarray) -> Dataset:
        # A shallow copy: the rows are already checked, and a subset may be empty.
        subset = copy.copy(self)
        if not mask.all():
            # Small subsets stay plain arrays, which callers compute with; others are views.
            is_small = type(self.values) is np.ndarray and self.values.nbytes <= MAX_COPIED_BYTES
            subset.values = self.values[mask] if is_small else RowView(self.values, np.flatnonzero(mask))
            subset.values_digest = None
            subset.labels, subset.held = self.labels[mask], self.held[mask]
            subset.conditions = None if self.conditions is None else self.conditions[mask]
            subset.names = None if self.names is None else list(compress(self.names, mask.tolist()))
        subset.notes, subset.skipped = list(self.notes), list(self.skipped)
        return subset

    def digest(self) -> str:
        """Return the SHA-256 (hex) of values, labels and conditions."""
        digest = hashlib.sha256((self.values_digest or digest_values(self.values)).encode())
        digest.update(np.ascontiguousarray(self.labels).data)
        if self.conditions is not None:
            digest.update(np.ascontiguousarray(self.conditions).data)
        return digest.hexdigest()


def hold_out(count: int) -> tuple[np.ndarray, list[str]]:
    """Return a mask of the held-out rows, (count,) bool, and a note if there are none.

    The last min(count // 10, 2000) entries of a fixed permutation are held out: the same rows in every run.
    """
    held = np.zeros(count, dtype=bool)
    held[np.random.default_rng(0).permutation(count)[count - min(count // 10, 2000):]] = True
    return held, [] if held.any() else [f"nothing is held out: {count} samples are fewer than 10"]


def check_finite(name: str, values: Values) -> None:
    """Raise ValueError for NaN or infinite values, with their count and first row."""
    if values.dtype.kind != "f":
        return
    wrong = np.concatenate([(~np.isfinite(chunk)).reshape(len(chunk), -1).sum(1) for chunk in chunks(values)])
    if wrong.any():
        raise ValueError(f"{name} has {wrong.sum()} values that are not finite, the first in row "
                         f"{wrong.nonzero()[0][0]}; every value must be a finite number")


def check_conditions(name: str, conditions: np.ndarray) -> None:
    """Raise ValueError unless each row of (N, K) conditions is finite or all NaN."""
    wrong = np.flatnonzero(~(np.isfinite(conditions).all(1) | np.isnan(conditions).all(1)))
    if wrong.size:
        raise ValueError(f"{name} has {wrong.size} rows that are neither finite nor all NaN (which means none), "
                         f"the first is row {wrong[0]}")


class ValuesDigest:
    """The SHA-256 of rows that arrive in chunks: of their numbers, then of count, shape and type."""

    def __init__(self) -> None:
        self._hash, self._count, self._suffix = hashlib.sha256(), 0, ""

    def update(self, chunk: np.ndarray) -> None:
        """Add the next rows, (B, ...), in any memory order."""
        self._hash.update(np.ascontiguousarray(chunk, dtype=chunk.dtype.newbyteorder("=")).data)
        self._count, self._suffix = self._count + len(chunk), f"{chunk.shape[1:]} {chunk.dtype.name}"

    def hexdigest(self) -> str:
        """Return the digest of all rows so far."""
        total = self._hash.copy()
        total.update(f"{self._count} {self._suffix}".encode())
        return total.hexdigest()


def digest_values(values: Values) -> str:
    """Return the SHA-256 (hex) of numbers, shape and type, independent of memory order."""
    digest = ValuesDigest()
    for chunk in chunks(values):
        digest.update(chunk)
    return digest.hexdigest()


def chunks(values: Values) -> Iterator[np.ndarray]:
    """Yield all rows in order, about 4 million numbers at a time, because a set may not fit in memory."""
    step = max(1, 2**22 // max(1, int(np.prod(values.shape[1:]))))
    return (values[start:start + step] for start in range(0, len(values), step))
