"""Rows of a .npy file, read when they are asked for."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.arguments import printable
from ornstein.data.spec import channel_first
from ornstein.files import open_regular, read_into

__all__ = ["StoredRows"]


class StoredRows:
    """The array in a .npy file, which stays on the disk: `rows[3:9]` and `rows[[4, 1]]` read what they give, channels
    first for a `layout`.

    It is no memory map: where a file is cut meanwhile, one of those kills the process or gives zeros.
    """

    def __init__(self, path: Path, layout: str = "") -> None:
        self.path, self.layout = os.path.abspath(path), layout
        self._file = open_regular(path)
        version = np.lib.format.read_magic(self._file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of .npy")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self._stored, by_columns, self.dtype = read(self._file)
        self._offset = self._file.tell()
        self._row = math.prod(self._stored[1:]) * self.dtype.itemsize
        self.in_rows = not by_columns or sum(side > 1 for side in self._stored) < 2
        self.facts: list[Any] = [os.fsdecode(self.path), *self._state()]
        if self.dtype.hasobject:
            raise ValueError("Object arrays are never loaded")
        need = self._offset + self.nbytes
        if min(self._stored, default=0) < 0 or need > self.facts[1]:
            raise ValueError(f"{self.facts[1]} of {need} bytes are there")
        self.shape: tuple[int, ...] = self._arranged(np.broadcast_to(np.zeros((), "u1"), self._stored)).shape

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return math.prod(self._stored) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Axes, that of the rows included."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        if isinstance(rows, slice) and rows.step in (None, 1):
            first, last, _ = rows.indices(len(self))
            starts, counts = [first], [max(0, last - first)]
        else:
            wanted = np.arange(len(self))[rows] if isinstance(rows, slice) else _numbers(rows, len(self))
            # Rows that follow each other are read at once.
            breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
            starts = wanted[np.append(0, breaks)].tolist() if len(wanted) else []
            counts = np.diff(breaks, prepend=0, append=len(wanted)).tolist() if len(wanted) else []
        values = self._read(starts, counts).reshape(-1, *self._stored[1:])
        if self._state() != self.facts[1:]:
            raise self._changed()
        values = self._arranged(values)
        return values[0] if np.ndim(rows) == 0 and not isinstance(rows, slice) else values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def _read(self, starts: list[int], counts: list[int]) -> np.ndarray:
        # Into place: a part of a large file is no longer in memory twice.
        content, place = bytearray(sum(counts) * self._row), 0
        for start, count in zip(starts, counts, strict=True):
            end, ahead = place + count * self._row, self._offset + start * self._row - place
            while place < end and (came := read_into(self._file, memoryview(content)[place:end], ahead + place)):
                place += came
            if place != end:
                raise self._changed()
        return np.frombuffer(content, self.dtype)

    def _arranged(self, values: np.ndarray) -> np.ndarray:
        return channel_first(values, self.layout) if self.layout else values

    def _state(self) -> list[int]:
        state = os.fstat(self._file.fileno())
        return [state.st_size, state.st_mtime_ns]

    def _changed(self) -> ValueError:
        return ValueError(f"{printable(self.path)}: has changed since it was opened; start again")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._file = open_regular(Path(self.path))
        if self._state() != self.facts[1:]:
            raise self._changed()


def _numbers(rows: Any, count: int) -> np.ndarray:
    numbers = np.atleast_1d(np.asarray(rows))
    if numbers.dtype == bool and numbers.shape == (count,):
        return np.flatnonzero(numbers)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise IndexError(f"rows are {numbers.dtype} of shape {numbers.shape}; they must be row numbers or a slice")
    numbers = numbers.astype(np.int64)
    numbers = np.where(numbers < 0, numbers + count, numbers)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
        raise IndexError(f"row {numbers.max()} is out of range; there are {count} rows")
    return numbers
