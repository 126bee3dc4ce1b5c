"""Rows of a .npy file, read on demand."""

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
    """The array in a .npy file, left on disk: `rows[3:9]` and `rows[[4, 1]]` read only those rows, channels first if a
    `layout` is given.

    This is not a memory map, which kills the process or returns zeros if the file is truncated.
    """

    def __init__(self, path: Path, layout: str = "") -> None:
        self.path, self.layout = os.path.abspath(path), layout
        self._file = open_regular(path)
        version = np.lib.format.read_magic(self._file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"unsupported .npy version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self._stored_shape, is_fortran, self.dtype = read(self._file)
        self._data_offset = self._file.tell()
        self._row_bytes = math.prod(self._stored_shape[1:]) * self.dtype.itemsize
        self.is_row_major = not is_fortran or sum(side > 1 for side in self._stored_shape) < 2
        self.signature: list[Any] = [os.fsdecode(self.path), *self._file_state()]
        if self.dtype.hasobject:
            raise ValueError("Object arrays are never loaded")
        needed = self._data_offset + self.nbytes
        if min(self._stored_shape, default=0) < 0 or needed > self.signature[1]:
            raise ValueError(f"{self.signature[1]} of {needed} bytes are present")
        self.shape: tuple[int, ...] = self._arrange(np.broadcast_to(np.zeros((), "u1"), self._stored_shape)).shape

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return math.prod(self._stored_shape) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of axes, including the row axis."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        if isinstance(rows, slice) and rows.step in (None, 1):
            first, last, _ = rows.indices(len(self))
            starts, counts = [first], [max(0, last - first)]
        else:
            indices = np.arange(len(self))[rows] if isinstance(rows, slice) else _row_indices(rows, len(self))
            # Read consecutive rows at once.
            breaks = np.flatnonzero(np.diff(indices) != 1) + 1
            starts = indices[np.append(0, breaks)].tolist() if len(indices) else []
            counts = np.diff(breaks, prepend=0, append=len(indices)).tolist() if len(indices) else []
        values = self._read(starts, counts).reshape(-1, *self._stored_shape[1:])
        if self._file_state() != self.signature[1:]:
            raise self._changed_error()
        values = self._arrange(values)
        return values[0] if np.ndim(rows) == 0 and not isinstance(rows, slice) else values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def _read(self, starts: list[int], counts: list[int]) -> np.ndarray:
        # Read into one buffer, so that no part is in memory twice.
        content, position = bytearray(sum(counts) * self._row_bytes), 0
        for start, count in zip(starts, counts, strict=True):
            end, shift = position + count * self._row_bytes, self._data_offset + start * self._row_bytes - position
            while position < end and (
                    received := read_into(self._file, memoryview(content)[position:end], shift + position)):
                position += received
            if position != end:
                raise self._changed_error()
        return np.frombuffer(content, self.dtype)

    def _arrange(self, values: np.ndarray) -> np.ndarray:
        return channel_first(values, self.layout) if self.layout else values

    def _file_state(self) -> list[int]:
        state = os.fstat(self._file.fileno())
        return [state.st_size, state.st_mtime_ns]

    def _changed_error(self) -> ValueError:
        return ValueError(f"{printable(self.path)}: changed since it was opened; start again")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._file = open_regular(Path(self.path))
        if self._file_state() != self.signature[1:]:
            raise self._changed_error()


def _row_indices(rows: Any, count: int) -> np.ndarray:
    indices = np.atleast_1d(np.asarray(rows))
    if indices.dtype == bool and indices.shape == (count,):
        return np.flatnonzero(indices)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise IndexError(f"rows are {indices.dtype} of shape {indices.shape}; they must be row numbers or a slice")
    indices = indices.astype(np.int64)
    outside = indices[(indices < -count) | (indices >= count)]
    if outside.size:
        raise IndexError(f"row {outside[0]} is out of range; there are {count} rows")
    return np.where(indices < 0, indices + count, indices)
