"""Conditions of samples, read from a caller's forms into one entry per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.data.spec import DataSpec

__all__ = ["Condition", "Conditions", "check_moments", "no_condition", "standardised"]

Condition = Tensor | np.ndarray | Sequence[Any] | float | str | None


@dataclass(frozen=True)
class Conditions:
    """The conditions that a denoiser accepts: "classes", "vectors", "none", or "any" if that is unknown.

    There are `count` classes, or numbers in a vector; 0 if that is unknown. Classes are whole numbers of any type, or
    their names if `data` have them; -1 means none. Vectors hold floats or whole numbers; those of one number may come
    without an axis. A row of NaN, or for vectors of several numbers a single -1, means none.
    """

    kind: str = "any"
    count: int = 0
    data: DataSpec | None = None

    @classmethod
    def from_network(cls, network: nn.Module, data: DataSpec | None, mean: Tensor | None) -> Conditions:
        """The conditions that a network accepts by its `options`, else by its data or by the mean of their vectors."""
        options = getattr(network, "options", None)  # a user's own network may have none
        declared = options if isinstance(options, dict) and "classes" in options else {}
        classes, vectors = declared.get("classes"), declared.get("conditions")
        if not declared and data is not None:
            classes, vectors = len(data.classes), len(data.conditions)
        if not declared and not classes and mean is not None:
            vectors = len(mean)
        if classes:
            return cls("classes", classes, data)
        return cls("vectors", vectors) if vectors else cls("none" if declared else "any")

    def read(self, condition: Condition, rows: int, device: torch.device | str | None = None,
             allow_empty: bool = False) -> Tensor | None:
        """A condition as (rows,) int64 or (rows, count) floats, None for None; ValueError for anything else.

        Classes without training rows are refused unless `allow_empty`.
        """
        if condition is None or (isinstance(condition, Tensor) and torch.compiler.is_exporting()):
            return condition  # an exported graph has no checks
        if self.kind == "classes":
            return self._classes(condition, rows, device, allow_empty)
        if self.kind == "vectors":
            return self._vectors(_as_tensor(condition, device), rows)
        # For a model without conditions a name gets the same message as any other condition.
        entries = None if self.kind == "none" and isinstance(condition, str) else _read_any(condition, rows, device)
        if self.kind == "none" and (entries is None or entries.is_floating_point() or not (entries == -1).all()):
            raise ValueError("condition is given, but this model has no classes and no vector conditions")
        return entries

    def _classes(self, condition: Condition, rows: int, device: torch.device | str | None,
                 allow_empty: bool) -> Tensor:
        classes = _as_tensor(self._replace_names(condition), device)
        allowed = f"a class from 0 to {self.count - 1}" if self.count else "a class, a whole number"
        if classes.is_floating_point() or classes.ndim > 1 or (classes.ndim == 1 and len(classes) not in (1, rows)):
            raise ValueError(f"condition {_shape(classes)}; it must be {allowed}, or one for each of the {rows} rows, "
                             f"or -1 for none{_remedy(classes)}")
        if self.count and not ((classes >= -1) & (classes < self.count)).all():
            raise ValueError(f"condition is {classes.flatten()[:4].tolist()}; it must be {allowed}, or -1 for none"
                             + (", or the name of one as text" if self.data else ""))
        if self.data is not None and self.data.empty and not allow_empty:
            empty = torch.isin(classes, torch.tensor(self.data.empty, device=classes.device))
            if empty.any():
                self.data.label(self.data.classes[int(classes[empty].flatten()[0])])  # raises
        return classes.reshape(-1).expand(rows)

    def _vectors(self, numbers: Tensor, rows: int) -> Tensor:
        count = self.count
        if not numbers.is_floating_point():
            if count > 1 and numbers.ndim < 2 and (numbers == -1).all():
                return torch.full((rows, count), float("nan"), dtype=torch.float32, device=numbers.device)
            numbers = numbers.double()
        if count == 1 and (numbers.ndim == 0 or numbers.shape in ((1,), (rows,))):
            numbers = numbers.reshape(-1, 1)
        entries = numbers[None] if numbers.ndim == 1 else numbers
        if entries.ndim != 2 or len(entries) not in (1, rows):
            raise ValueError(f"condition {_shape(numbers)}; it must be a vector of {count} number{'s' * (count > 1)}, "
                             f"or one for each of the {rows} rows")
        if entries.shape[1] != count:
            raise ValueError(f"condition has {entries.shape[1]} numbers per row; it must have {count}")
        missing = entries.isnan()
        if entries.isinf().any() or (missing.any(1) != missing.all(1)).any():
            raise ValueError("condition has a row with infinite or missing numbers; a row must be finite, or NaN "
                             "throughout for none")
        return entries.expand(rows, count)

    def _replace_names(self, condition: Condition) -> Condition:
        """Classes with names replaced by their numbers."""
        names = condition.tolist() if isinstance(condition, np.ndarray) and condition.dtype.kind in "UO" else condition
        if isinstance(names, str):
            if self.data is None:
                raise ValueError(f"condition is {names!r}, but this model has no class names; give numbers")
            return self.data.label(names)
        if isinstance(names, list | tuple) and any(isinstance(name, str) or name is None for name in names):
            return [-1 if name is None else self._replace_names(name) for name in names]
        return names


def check_moments(mean: Tensor | Sequence[float] | None,
                  std: Tensor | Sequence[float] | None) -> tuple[Tensor | None, Tensor | None]:
    """Return mean and deviation of vector conditions, (K,) each, after checking them; None for both without any."""
    if mean is None or std is None:
        if mean is not std:
            raise ValueError(f"condition_{'mean' if mean is None else 'std'} is None; give condition_mean and "
                             "condition_std together, or neither")
        return None, None
    values = [value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float32) for value in (mean, std)]
    for name, value in zip(("condition_mean", "condition_std"), values, strict=True):
        if value.ndim != 1 or not value.isfinite().all():
            raise ValueError(f"{name} is {value.tolist()}; it must be (K,) finite numbers")
    mean, std = values
    if mean.shape != std.shape:
        raise ValueError(f"condition_mean has {len(mean)} entries and condition_std {len(std)}; they must agree")
    if not (std > 0).all():
        raise ValueError(f"condition_std is {float(std.min())}; it must be positive")
    # float64 if float32 holds the mean only to a millionth of the deviation, as for a time in seconds.
    needs_double = mean.dtype == torch.float64 and bool((mean.abs() > 16 * std).any())
    dtype = torch.float64 if needs_double else torch.float32
    return mean.to(dtype), std.to(dtype)


def standardised(condition: Tensor | None, mean: Tensor | None, std: Tensor | None, like: Tensor) -> Tensor | None:
    """Vectors centred and scaled by their moments, if given, in the dtype of `like`; classes unchanged."""
    if condition is None or not condition.is_floating_point():
        return condition
    if mean is not None and std is not None:
        condition = (condition.to(torch.promote_types(condition.dtype, mean.dtype)) - mean) / std
    return condition.to(like)


def no_condition(like: Tensor) -> Tensor:
    """The entries for no condition, in the form of `like`: class -1, or vectors of NaN."""
    return torch.full_like(like, float("nan") if like.is_floating_point() else -1)


def _read_any(condition: Condition, rows: int, device: torch.device | str | None) -> Tensor:
    """A condition of unknown kind as one entry per row: (rows,) int64, or (rows, K) floats."""
    numbers = _as_tensor(condition, device)
    rank = 2 if numbers.is_floating_point() else 1
    entries = numbers[None] if numbers.ndim == rank - 1 else numbers
    if entries.ndim != rank or len(entries) not in (1, rows):
        raise ValueError(f"condition {_shape(numbers)}; it must be one integer, or one for each of the {rows} rows; or "
                         f"one vector (K,) of floats, or ({rows}, K){_remedy(numbers)}")
    return entries.expand(rows, *entries.shape[1:])


def _as_tensor(condition: Condition, device: torch.device | str | None) -> Tensor:
    """A condition as a tensor, int64 for whole numbers."""
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


def _shape(numbers: Tensor) -> str:
    return f"has {len(numbers) if numbers.ndim else 1} entries of {numbers.dtype} in shape {tuple(numbers.shape)}"


def _remedy(numbers: Tensor) -> str:
    is_one_hot = numbers.ndim == 2 and numbers.shape[1] > 1 and bool(((numbers == 0) | (numbers == 1)).all())
    return "; for one-hot rows give condition.argmax(1)" if is_one_hot and bool((numbers.sum(1) == 1).all()) else ""
