"""What a denoiser is told about each sample: from what a caller has to one entry a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.data.spec import DataSpec

__all__ = ["Condition", "as_classes", "as_vectors", "for_rows", "nothing"]

Condition = Tensor | np.ndarray | Sequence[Any] | float | str | None


def for_rows(condition: Condition, rows: int, device: torch.device | str | None = None) -> Tensor:
    """A condition as one entry a row, for a denoiser of which no more is known.

    Args:
        condition: a class, (rows,) classes, a vector (K,) of floats, or (rows, K) of them; whole numbers of any type.
        rows: how many there are.
        device: to put it on; its own unless given.

    Returns:
        (rows,) int64, or (rows, K) floats.

    Raises:
        ValueError: a condition of another shape or kind.
    """
    given = _numbers(condition, device)
    rank = 2 if given.is_floating_point() else 1
    entries = given[None] if given.ndim == rank - 1 else given
    if entries.ndim != rank or len(entries) not in (1, rows):
        raise ValueError(f"condition {_shape(given)}; it must be one integer, or one for each of the {rows} rows; or "
                         f"of floats one vector (K,), or ({rows}, K)" + _remedy(given))
    return entries.expand(rows, *entries.shape[1:])


def as_classes(condition: Condition, rows: int, device: torch.device | str | None = None, count: int | None = None,
               data: DataSpec | None = None) -> Tensor:
    """A condition as the number of a class for each row.

    Args:
        condition: a class, or one for each row: numbers of any whole type, or where there are data their names, or
            numbers as text; -1 or None for none.
        rows: how many there are.
        device: to put them on; their own unless given.
        count: how many classes there are, where that is known.
        data: that know the names.

    Returns:
        (rows,) int64.

    Raises:
        ValueError: a condition of another shape or kind, or a class that is not there.
    """
    given = _numbers(_numbered(condition, data), device)
    what = f"a class from 0 to {count - 1}" if count else "a class, a whole number"
    if given.is_floating_point() or given.ndim > 1 or (given.ndim == 1 and len(given) not in (1, rows)):
        raise ValueError(f"condition {_shape(given)}; it must be {what}, or one for each of the {rows} rows, or -1 for "
                         "none" + _remedy(given))
    if count and not ((given >= -1) & (given < count)).all():
        raise ValueError(f"condition is {given.flatten()[:4].tolist()}; it must be {what}, or -1 for none"
                         + (", or the name of one as text" if data else ""))
    return given.reshape(-1).expand(rows)


def as_vectors(condition: Condition, rows: int, count: int, device: torch.device | str | None = None) -> Tensor:
    """A condition as a vector of numbers for each row.

    Args:
        condition: a vector (K,), or (rows, K); for K = 1 a number or (rows,) of them too. Whole numbers are floats, and
            a row of NaN, or for K > 1 a bare -1, is none.
        rows: how many there are.
        count: K.
        device: to put them on; their own unless given.

    Returns:
        (rows, K) floats.

    Raises:
        ValueError: a condition of another shape or kind, infinite numbers, or a row that is partly missing.
    """
    given = _numbers(condition, device)
    if not given.is_floating_point():
        if count > 1 and given.ndim < 2 and (given == -1).all():
            return torch.full((rows, count), float("nan"), dtype=torch.float32, device=given.device)
        given = given.double()
    if count == 1 and (given.ndim == 0 or given.shape in ((1,), (rows,))):
        given = given.reshape(-1, 1)
    entries = given[None] if given.ndim == 1 else given
    if entries.ndim != 2 or len(entries) not in (1, rows):
        raise ValueError(f"condition {_shape(given)}; it must be a vector of {count} number{'s' * (count > 1)}, or one "
                         f"for each of the {rows} rows")
    if entries.shape[1] != count:
        raise ValueError(f"condition has {entries.shape[1]} numbers a row; it must have {count}")
    missing = entries.isnan()
    if entries.isinf().any() or (missing.any(1) != missing.all(1)).any():
        raise ValueError("condition has a row with infinite or missing numbers; a row must be finite, or NaN "
                         "throughout for none")
    return entries.expand(rows, count)


def nothing(condition: Tensor) -> Tensor:
    """Like `condition`, but saying nothing: class -1, or vectors of NaN."""
    return torch.full_like(condition, float("nan") if condition.is_floating_point() else -1)


def _numbered(condition: Condition, data: DataSpec | None) -> Condition:
    """A condition with numbers in the place of names."""
    names = condition.tolist() if isinstance(condition, np.ndarray) and condition.dtype.kind in "UO" else condition
    if isinstance(names, str):
        return _number(names, data)
    if isinstance(names, list | tuple) and any(isinstance(name, str) or name is None for name in names):
        return [-1 if name is None else _number(name, data) for name in names]
    return names


def _number(name: Any, data: DataSpec | None) -> Any:
    if not isinstance(name, str):
        return name
    if data is None:
        raise ValueError(f"condition is {name!r}, but this model knows no names of classes; give numbers")
    return data.label(name)


def _numbers(condition: Condition, device: torch.device | str | None) -> Tensor:
    """A condition as a tensor, int64 where it has whole numbers."""
    if not isinstance(condition, Tensor):
        array = np.asarray(condition)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"condition is {condition!r}; it must be a class as a whole number, or numbers".replace(
                "\n", " "))
        array = array.astype(np.int64) if array.dtype.kind in "iu" else array
        condition = torch.as_tensor(array, device="cpu")
    if condition.dtype == torch.bool or condition.is_complex():
        raise ValueError(f"condition is {condition.dtype}; it must be a class as a whole number, or numbers")
    condition = condition.to(device) if device is not None else condition
    return condition if condition.is_floating_point() else condition.long()


def _shape(given: Tensor) -> str:
    return f"has {len(given) if given.ndim else 1} entries of {given.dtype} in shape {tuple(given.shape)}"


def _remedy(given: Tensor) -> str:
    hot = given.ndim == 2 and given.shape[1] > 1 and bool(((given == 0) | (given == 1)).all())
    return "; of one-hot rows give condition.argmax(1)" if hot and bool((given.sum(1) == 1).all()) else ""
