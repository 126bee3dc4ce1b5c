"""What turns source values into numbers in [-1, 1] and samples back into the user's values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from ornstein.names import require

__all__ = ["MOST_LEVELS", "DataSpec", "printable"]

RANKS = {"picture": 3, "array": 1}
MOST_LEVELS = 65536  # float32 in [-1, 1] still tells this many levels apart with room to spare


def printable(text: str) -> str:
    """Return `text` on one line that any terminal and JSON file takes: other characters become escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True)
class DataSpec:
    """All that a checkpoint must carry so that samples can be turned back into the user's values.

    encode(v) = 2 (v - low) / (high - low) - 1

    Args:
        name: short name of the source ("digits", a folder's name, a file's stem), printable text.
        kind: "picture" or "array".
        shape: of one sample, each >= 1: (C, H, W) for a picture, (D,) for an array.
        low: source value that maps to -1, finite.
        high: source value that maps to 1, above low by 1e-30 to 1e38.
        levels: how many evenly spaced values low..high exist, 2..65536; None when continuous.
        classes: class names by index, distinct printable text; () without classes.

    Raises:
        ValueError: a field of the wrong type or out of its range; the message names it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    low: float
    high: float
    levels: int | None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, good, allowed in self._checks():
            if not good:
                raise ValueError(f"data spec {key} is {getattr(self, key)!r}; it must be {allowed}")

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        # A generator, so that a check may rely on those before it.
        yield "name", _is_name(self.name), "printable text"
        yield "kind", isinstance(self.kind, str) and self.kind in RANKS, " or ".join(RANKS)
        whole = isinstance(self.shape, tuple) and all(type(side) is int and side >= 1 for side in self.shape)
        rank = RANKS[self.kind]
        yield "shape", whole and len(self.shape) == rank, f"{rank} whole numbers >= 1 for kind {self.kind}"
        yield "low", _is_number(self.low), "a finite number"
        yield "high", _is_number(self.high), "a finite number"
        yield "high", 1e-30 <= self.high - self.low <= 1e38, f"above low = {self.low} (by 1e-30 to 1e38)"
        levels = self.levels
        yield "levels", levels is None or (type(levels) is int and 2 <= levels <= MOST_LEVELS), (
            f"a whole number 2..{MOST_LEVELS}, or None")
        names = isinstance(self.classes, tuple) and all(map(_is_name, self.classes))
        yield "classes", names and len(set(self.classes)) == len(self.classes), "distinct printable names"

    def encode(self, values: np.ndarray) -> torch.Tensor:
        """Return source values as model values.

        Args:
            values: source values of any shape, low..high.

        Returns:
            float32 of the same shape, in [-1, 1] for values in low..high.
        """
        x = torch.from_numpy(np.array(values, dtype=np.float32, order="C"))
        # Dividing by the range, not multiplying by its inverse, lands on 1 exactly.
        return x.sub_(self.low).div_(self.high - self.low).mul_(2).sub_(1)

    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Return model values as source values: clipped and rounded to the levels where there are any.

        Args:
            x: model values of any shape, floating type and device.

        Returns:
            The same shape: uint8 for 256 levels of 0..255, float32 otherwise; without levels only mapped, not clipped.

        Raises:
            ValueError: NaN where there are levels, for it has no nearest one.
        """
        unit = (x.detach().cpu().double().numpy() + 1) / 2
        if self.levels is None:
            return (self.low + unit * (self.high - self.low)).astype(np.float32)
        if lost := int(np.isnan(unit).sum()):
            raise ValueError(f"x holds {lost} values that are not a number; only numbers can be decoded")
        top = self.levels - 1
        values = self.low + np.rint(unit.clip(0, 1) * top) * (self.high - self.low) / top
        return values.astype(np.uint8 if (self.low, self.high, top) == (0, 255, 255) else np.float32)

    def label(self, name: str) -> int:
        """Return the index of a class, by its name first, then by its index as text ("3").

        Raises:
            ValueError: there is no such class (the message has the nearest), or there are no classes.
        """
        if not self.classes:
            raise ValueError(f"class {name!r} cannot be chosen: data {self.name!r} has no classes")
        if name not in self.classes and name.isascii() and name.isdecimal() and int(name) < len(self.classes):
            return int(name)
        return self.classes.index(require("class", name, self.classes))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values: tuples become lists."""
        return {**asdict(self), "shape": list(self.shape), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> DataSpec:
        """Return the spec that `as_dict` wrote.

        Raises:
            ValueError: a key that is unknown or missing, or a value of the wrong type; the message names the key.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"data spec is {record!r}; it must be a table of its fields")
        known = [field.name for field in fields(cls)]
        for key in [*known, *record]:
            if (key in known) != (key in record):
                fault = "missing" if key in known else "unknown"
                raise ValueError(f"data spec key {key!r} is {fault}; it must have exactly: {', '.join(known)}")
        lists = {key: record[key] for key in ("shape", "classes")}
        for key, value in lists.items():
            if not isinstance(value, list):
                raise ValueError(f"data spec {key} is {value!r}; it must be a list")
        values: dict[str, Any] = {**record, **{key: tuple(value) for key, value in lists.items()}}
        return cls(**values)


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text != "" and text.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
