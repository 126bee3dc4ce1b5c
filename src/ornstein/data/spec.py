"""What turns source values into numbers in [-1, 1] and samples back into the user's values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from ornstein.names import printable, require

__all__ = ["LAYOUTS", "MOST_LEVELS", "DataSpec", "channel_first", "printable"]

# Axes of one sample as the user has them, by the rank of the model's shape; the first is what a bare array is.
LAYOUTS = {1: ("V",), 2: ("CL", "L", "LC"), 3: ("CHW", "HW", "HWC"), 4: ("CDHW", "DHW", "DHWC")}
KINDS = {"picture": (3,), "array": (1, 2, 3, 4)}
MOST_LEVELS = 65536  # float32 in [-1, 1] still tells this many levels apart with room to spare


@dataclass(frozen=True)
class DataSpec:
    """All that a checkpoint must carry so that samples can be turned back into the user's values.

    encode(v) = 2 (v - low) / (high - low) - 1

    Args:
        name: short name of the source ("digits", a folder's name, a file's stem), printable text.
        kind: "picture", for what can be drawn as one, or "array".
        shape: of one sample in the model, channels first, each side >= 1: (C, H, W) for a picture; (D,), (C, L),
            (C, H, W) or (C, D, H, W) for an array.
        low: source value that maps to -1, finite; or a tuple of them, one for each entry of the first axis.
        high: source value that maps to 1, above low by 1e-30 to 1e38; a tuple exactly where low is one.
        levels: how many evenly spaced values low..high exist, 2..65536; None when continuous, and with tuples.
        classes: class names by index, distinct printable text; () without classes.
        layout: the axes of one sample as the user has them, in letters: V; L, CL or LC; HW, CHW or HWC; DHW, CDHW
            or DHWC; "" stands for V, CL, CHW or CDHW.
        conditions: names of the numbers in a vector condition, distinct printable text; () without, and with classes.
        empty: numbers of the classes that no training row has, rising; a model knows nothing of them.

    Raises:
        ValueError: a field of the wrong type or out of its range; the message names it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    levels: int | None
    classes: tuple[str, ...] = ()
    layout: str = ""
    conditions: tuple[str, ...] = ()
    empty: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.layout == "" and isinstance(self.shape, tuple) and len(self.shape) in LAYOUTS:
            object.__setattr__(self, "layout", LAYOUTS[len(self.shape)][0])
        for key, good, allowed in self._checks():
            if not good:
                raise ValueError(f"data spec {key} is {getattr(self, key)!r}; it must be {allowed}")

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        # A generator, so that a check may rely on those before it.
        yield "name", _is_name(self.name), "printable text"
        yield "kind", isinstance(self.kind, str) and self.kind in KINDS, " or ".join(KINDS)
        whole = isinstance(self.shape, tuple) and all(type(side) is int and side >= 1 for side in self.shape)
        ranks = KINDS[self.kind]
        count = f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else f"{ranks[0]}"
        yield "shape", whole and len(self.shape) in ranks, f"{count} whole numbers >= 1 for kind {self.kind}"
        channels = self.shape[0]
        yield "low", _is_range(self.low, channels), f"a finite number, or a tuple of {channels}, one a channel"
        yield "high", _is_range(self.high, channels), f"a finite number, or a tuple of {channels}, one a channel"
        alike = isinstance(self.low, tuple) == isinstance(self.high, tuple)
        yield "high", alike, f"a tuple exactly where low = {self.low} is one"
        gaps = np.subtract(self.high, self.low, dtype=np.float64)
        yield "high", bool(((gaps >= 1e-30) & (gaps <= 1e38)).all()), f"above low = {self.low} (by 1e-30 to 1e38)"
        levels = self.levels
        yield "levels", levels is None or (type(levels) is int and 2 <= levels <= MOST_LEVELS), (
            f"a whole number 2..{MOST_LEVELS}, or None")
        yield "levels", levels is None or not isinstance(self.low, tuple), "None where each channel has its own range"
        yield "classes", _are_names(self.classes), "distinct printable names"
        layouts = LAYOUTS[len(self.shape)]
        yield "layout", isinstance(self.layout, str) and self.layout in layouts, (
            f"{' or '.join(layouts)} for shape {self.shape}")
        yield "layout", self.layout == "V" or "C" in self.layout or channels == 1, (
            f"one with C, for there are {channels} channels")
        yield "conditions", _are_names(self.conditions), "distinct printable names"
        yield "conditions", not (self.conditions and self.classes), "() where there are classes"
        rising = isinstance(self.empty, tuple) and all(type(k) is int for k in self.empty) and (
            list(self.empty) == sorted(set(self.empty)))
        yield "empty", rising and (
            not self.empty or set(self.empty) < set(range(len(self.classes)))), (
            "numbers of classes, rising, and not of all")

    def encode(self, values: np.ndarray) -> torch.Tensor:
        """Return source values as model values.

        Args:
            values: source values, channels first, low..high, of any shape; ending in `shape` where channels have
                ranges of their own.

        Returns:
            float32 of the same shape, in [-1, 1] for values in low..high.

        Raises:
            ValueError: a shape that does not end in `shape`, where each channel has its own range.
        """
        low, high = self._range(values.shape)
        # What float32 cannot hold, it must not hold before the range is taken off: 1e9 + 0.001 is lost otherwise.
        wide = values.dtype.itemsize > 4 or (values.dtype.kind in "iu" and values.dtype.itemsize == 4)
        x = torch.from_numpy(np.array(values, dtype=np.float64 if wide else np.float32, order="C"))
        # Dividing by the range, not multiplying by its inverse, lands on 1 exactly.
        if isinstance(low, float | int):
            return x.sub_(low).div_(high - low).mul_(2).sub_(1).float()
        offset, width = (torch.from_numpy(part).to(x) for part in (low, high - low))
        return x.sub_(offset).div_(width).mul_(2).sub_(1).float()

    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Return model values as source values: clipped and rounded to the levels where there are any.

        Args:
            x: model values of any shape, floating type and device; shape as in `encode`.

        Returns:
            The same shape, channels first (`arrange` gives the user's): uint8 for 256 levels of 0..255, float32
            otherwise; without levels only mapped, not clipped.

        Raises:
            ValueError: NaN where there are levels, for it has no nearest one; a shape as in `encode`.
        """
        low, high = self._range(tuple(x.shape))
        unit = (x.detach().cpu().double().numpy() + 1) / 2
        if self.levels is None:
            return (low + unit * (high - low)).astype(np.float32)
        if lost := int(np.isnan(unit).sum()):
            raise ValueError(f"x holds {lost} values that are not a number; only numbers can be decoded")
        top = self.levels - 1
        values = low + np.rint(unit.clip(0, 1) * top) * (high - low) / top
        return values.astype(np.uint8 if (low, high, top) == (0, 255, 255) else np.float32)

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """Return decoded samples with their axes as the user's data have them: (N, H, W, C) comes back so.

        Args:
            values: (N, *shape), channels first.

        Returns:
            A view of them in `layout`.

        Raises:
            ValueError: another shape.
        """
        if values.shape[1:] != self.shape:
            raise ValueError(f"values have shape {values.shape}; they must be (N, {', '.join(map(str, self.shape))})")
        if self.layout.endswith("C"):
            return np.moveaxis(values, 1, -1)
        return values if "C" in self.layout or self.layout == "V" else values[:, 0]

    def _range(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        if not isinstance(self.low, tuple):
            return self.low, self.high
        if shape[-len(self.shape):] != self.shape:
            raise ValueError(f"values have shape {shape}; with a range for each channel it must end in {self.shape}")
        spread = (-1, *(1,) * (len(self.shape) - 1))
        return np.reshape(self.low, spread).astype(np.float64), np.reshape(self.high, spread).astype(np.float64)

    @property
    def drawn(self) -> tuple[int, ...]:
        """Numbers of the classes that training rows have."""
        empty = set(self.empty)
        return tuple(number for number in range(len(self.classes)) if number not in empty)

    def label(self, name: str) -> int:
        """Return the number of a class, by its name first, then by its number as text ("3").

        Raises:
            ValueError: there is no such class (the message has the nearest), no training row has it, or there are no
                classes.
        """
        if not self.classes:
            raise ValueError(f"class {name!r} cannot be chosen: data {self.name!r} has no classes")
        there = [self.classes[number] for number in self.drawn]
        if name in self.classes:
            number = self.classes.index(name)
        elif name.isascii() and name.isdecimal() and len(name) < 9 and int(name) < len(self.classes):
            number = int(name)
        else:
            number = self.classes.index(require("class", name, there))
        if number in self.empty:
            raise ValueError(f"class {name!r} cannot be chosen: no sample that was trained on has it (allowed: "
                             f"{', '.join(there)})")
        return number

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values: tuples become lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> DataSpec:
        """Return the spec that `as_dict` wrote, now or before a field that has a default was added.

        Raises:
            ValueError: a key that is unknown or missing, or a value of the wrong type; the message names the key.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"data spec is {record!r}; it must be a table of its fields")
        known = [field.name for field in fields(cls)]
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        for key in [*needed, *record]:
            if key not in known or key not in record:
                fault = "missing" if key in known else "unknown"
                raise ValueError(f"data spec key {key!r} is {fault}; it must have: {', '.join(known)}")
        for key in ("shape", "classes", "conditions", "empty"):
            if not isinstance(record.get(key, []), list):
                raise ValueError(f"data spec {key} is {record[key]!r}; it must be a list")
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                  for key, value in record.items()}
        return cls(**values)


def channel_first(values: np.ndarray, layout: str) -> np.ndarray:
    """Return a view of samples with their channels in front of the axes of space.

    Args:
        values: (N, *axes of layout).
        layout: a word of `LAYOUTS`.

    Returns:
        (N, D) for V, else (N, C, ...), where C is 1 for a layout without C.
    """
    if layout.endswith("C"):
        return np.moveaxis(values, -1, 1)
    return values if "C" in layout or layout == "V" else values[:, None]


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text != "" and text.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_range(value: object, channels: int) -> bool:
    return len(value) == channels and all(map(_is_number, value)) if isinstance(value, tuple) else _is_number(value)


def _are_names(names: object) -> bool:
    return isinstance(names, tuple) and all(map(_is_name, names)) and len(set(names)) == len(names)
