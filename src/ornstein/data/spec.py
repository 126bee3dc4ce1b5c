"""What turns source values into numbers in [-1, 1] and samples back into the user's values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.arguments import printable, require, short_repr

__all__ = ["LAYOUTS", "MOST_LEVELS", "WIDEST", "DataSpec", "above", "channel_first", "printable"]

# Axes of one sample as the user has them, by the rank of the model's shape; the first is what a bare array is.
LAYOUTS = {1: ("V",), 2: ("CL", "L", "LC"), 3: ("CHW", "HW", "HWC"), 4: ("CDHW", "DHW", "DHWC")}
MODES = {"RGBA": (4, 255), "I;16": (1, 65535)}  # with the number of channels and their greatest value
KINDS = {"picture": (3,), "array": (1, 2, 3, 4)}
MOST_LEVELS = 65536  # float32 in [-1, 1] still tells this many levels apart with room to spare
WIDEST = 1e100  # of values and ranges, and one over the narrowest: float64 can still square them


@dataclass(frozen=True)
class DataSpec:
    """All that a checkpoint must carry so that samples can be turned back into the user's values.

    encode(v) = 2 (v - low) / (high - low) - 1

    `low` and `high` are the scale that a model learns on, which follows the spread of the data; `least` and `most` are
    what the data reach, from which pictures are drawn and levels are counted.

    Args:
        name: short name of the source ("digits", a folder's name, a file's stem), printable text.
        kind: "picture", for what can be drawn as one, or "array".
        shape: of one sample in the model, channels first, each side >= 1: (C, H, W) for a picture; (D,), (C, L),
            (C, H, W) or (C, D, H, W) for an array.
        low: source value that maps to -1, finite; or a tuple of them, one for each entry of the first axis.
        high: source value that maps to 1, above low by 1e-100 to 1e100; a tuple exactly where low is one.
        levels: how many evenly spaced values least..most exist, 2..2^53; None when continuous; a tuple of both exactly
            where low is one.
        classes: class names by index, distinct printable text; () without classes.
        layout: the axes of one sample as the user has them, in letters: V; L, CL or LC; HW, CHW or HWC; DHW, CDHW
            or DHWC; "" stands for V, CL, CHW or CDHW.
        conditions: names of the numbers in a vector condition, distinct printable text; () without, and with classes.
        empty: numbers of the classes that no training row has, rising; a model knows nothing of them.
        least: source value that is drawn black and is the first level; `low` when None; a tuple where low is one.
        most: source value that is drawn white and is the last level; `high` when None; a tuple where low is one.
        mode: "RGBA" where a fourth channel is opacity, 0 (transparent) to 255, and the colours are multiplied by it, as
            values / 255; "I;16" for grey of 16 bits, 0 to 65535; "" for all else.
        columns: names of the entries of a vector, distinct printable text; () where they have none.

    Raises:
        ValueError: a field of the wrong type or out of its range; the message names it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    levels: int | tuple[int | None, ...] | None
    classes: tuple[str, ...] = ()
    layout: str = ""
    conditions: tuple[str, ...] = ()
    empty: tuple[int, ...] = ()
    least: float | tuple[float, ...] | None = None
    most: float | tuple[float, ...] | None = None
    mode: str = ""
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.layout == "" and isinstance(self.shape, tuple) and len(self.shape) in LAYOUTS:
            object.__setattr__(self, "layout", LAYOUTS[len(self.shape)][0])
        for mine, other in (("least", "low"), ("most", "high"), ("levels", "low")):
            if getattr(self, mine) is None and (mine != "levels" or isinstance(self.low, tuple)):
                value = getattr(self, other)
                object.__setattr__(self, mine, (None,) * len(value) if mine == "levels" else value)
        for key, good, allowed in self._checks():
            if not good:
                raise ValueError(f"data spec {key} is {short_repr(getattr(self, key))}; it must be {allowed}")

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        # A generator, so that a check may rely on those before it.
        yield "name", _is_name(self.name), "printable text"
        yield "kind", isinstance(self.kind, str) and self.kind in KINDS, " or ".join(KINDS)
        whole = isinstance(self.shape, tuple) and all(type(side) is int and side >= 1 for side in self.shape)
        ranks = KINDS[self.kind]
        count = f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else f"{ranks[0]}"
        yield "shape", whole and len(self.shape) in ranks, f"{count} whole numbers >= 1 for kind {self.kind}"
        channels = self.shape[0]
        for low, high in (("low", "high"), ("least", "most")):
            first, last = getattr(self, low), getattr(self, high)
            for key, value in ((low, first), (high, last)):
                yield key, _is_range(value, channels), f"a finite number, or a tuple of {channels}, one a channel"
                yield key, isinstance(self.low, tuple) == isinstance(value, tuple), (
                    f"a tuple exactly where low = {self.low} is one")
            gaps = _apart(last, first)
            yield high, bool(((gaps >= 1 / WIDEST) & (gaps <= WIDEST)).all()), (
                f"above {low} = {first} (by 1e-100 to 1e100)")
        entries = self.levels if isinstance(self.levels, tuple) else (self.levels,)
        whole = all(entry is None or (type(entry) is int and 2 <= entry <= 2**53) for entry in entries)
        yield "levels", whole, "a whole number 2..2^53, or None"
        yield "levels", len(entries) == (channels if isinstance(self.low, tuple) else 1), (
            f"one entry for each of {channels} channels where low is a tuple")
        yield "classes", _are_names(self.classes), "distinct printable names"
        layouts = LAYOUTS[len(self.shape)]
        yield "layout", isinstance(self.layout, str) and self.layout in layouts, (
            f"{' or '.join(layouts)} for shape {self.shape}")
        yield "layout", self.layout == "V" or "C" in self.layout or channels == 1, (
            f"one with C, for there are {channels} channels")
        yield "conditions", _are_names(self.conditions), "distinct printable names"
        yield "conditions", not (self.conditions and self.classes), "() where there are classes"
        yield "columns", self.columns == () or (
            _are_names(self.columns) and self.layout == "V" and len(self.columns) == channels), (
            "a distinct printable name for each entry of a vector, or () for none")
        rising = isinstance(self.empty, tuple) and all(type(k) is int for k in self.empty) and (
            list(self.empty) == sorted(set(self.empty)))
        yield "empty", rising and (
            not self.empty or set(self.empty) < set(range(len(self.classes)))), (
            "numbers of classes, rising, and not of all")
        yield "mode", isinstance(self.mode, str) and self.mode in ("", *MODES), " or ".join(map(repr, ("", *MODES)))
        many, most = MODES.get(self.mode, (channels, None))
        inside = most is None or bool((_numbers(self.least) >= 0).all() and (_numbers(self.most) <= most).all())
        yield "mode", most is None or (self.kind == "picture" and channels == many and inside), (
            f"'' but for pictures of {many} channels of values from 0 to {most}")

    @property
    def rounds(self) -> bool:
        """Whether decoding rounds to levels, in some channel at least."""
        return any(self.levels) if isinstance(self.levels, tuple) else self.levels is not None

    @property
    def bins(self) -> int | None:
        """The number of levels where they are evenly spaced from -1 to 1 in the model, which likelihoods count; else
        None."""
        if not isinstance(self.levels, int) or (self.low, self.high) != (self.least, self.most):
            return None
        return self.levels if self.levels <= MOST_LEVELS else None

    def as_drawn(self) -> DataSpec:
        """Return the spec whose -1..1 are `least` and `most`."""
        fields: dict[str, Any] = {**vars(self), "low": self.least, "high": self.most}
        return DataSpec(**fields)

    def unrounded(self) -> DataSpec:
        """Return the spec whose values are not clipped and rounded to levels: of means and spreads of samples."""
        return replace(self, levels=None)

    @property
    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """`least` and `most` as float64 that broadcasts against a sample."""
        first, last = (self._along(end, self.shape).astype(np.float64) for end in (self.least, self.most))
        return first, last

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """`least` and `most` as model values, float64 that broadcasts against a sample: -1 and 1 unless the scale is
        another."""
        wide = _apart(self.high, self.low)
        first, last = ((2 * _apart(end, self.low) / wide - 1).reshape(-1, *(1,) * (len(self.shape) - 1))
                       for end in (self.least, self.most))
        return first, last

    def encode(self, values: np.ndarray) -> torch.Tensor:
        """Return source values as model values.

        Args:
            values: source values, channels first, of any shape; ending in `shape` where channels have ranges of their
                own.

        Returns:
            float32 of the same shape, in [-1, 1] for values in low..high.

        Raises:
            ValueError: a shape that does not end in `shape`, where each channel has its own range.
        """
        low, high = self._along(self.low, values.shape), self._along(self.high, values.shape)
        # What float32 cannot hold, it must not hold before the range is taken off: 1e9 + 0.001 is lost otherwise.
        narrow = values.dtype.kind in "biu" and values.dtype.itemsize <= 2 and np.equal(np.trunc(low), low).all()
        x = torch.from_numpy(np.subtract(values, low, dtype=np.float32) if narrow else above(values, low))
        # Dividing by the range, not multiplying by its inverse, lands on 1 exactly.
        return x.div_(torch.from_numpy(_apart(high, low)).to(x)).mul_(2).sub_(1).float()

    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Return model values as source values: clipped and rounded to the levels where there are any.

        Args:
            x: model values of any shape, floating type and device; shape as in `encode`.

        Returns:
            The same shape, channels first (`arrange` gives the user's): uint8 for levels of 0..255; else float32 where
            that tells a million values of the range apart, or all whole numbers in it; else float64, or int64 for whole
            numbers beyond 2^53. Without levels only mapped, not clipped.

        Raises:
            ValueError: NaN where there are levels, for it has no nearest one; a shape as in `encode`.
        """
        low, high, least, most = (self._along(end, tuple(x.shape)) for end in
                                  (self.low, self.high, self.least, self.most))
        unit = (x.detach().cpu().double().numpy() + 1) / 2
        kind = self._kind()
        counts = self._along(self.levels, tuple(x.shape)).astype(np.float64)
        if not counts.any():
            return (low + unit * _apart(high, low)).astype(kind)
        lost = int((np.isnan(unit) & (counts > 0)).sum())
        if lost:
            raise ValueError(f"x holds {lost} values that are not a number; only numbers can be decoded")
        top, wide = np.maximum(counts, 2) - 1, _apart(most, least)
        place = np.rint(((unit * _apart(high, low) + _apart(low, least)) / wide).clip(0, 1) * top)
        if kind == np.int64:
            least, step = (part.astype(object) for part in (least, (most - least) // top.astype(np.int64)))
            return (least + place.astype(np.int64) * step).astype(kind)
        step = wide / top
        # A step that is whole is multiplied, for then the result is whole; others lose nothing by dividing last.
        rounded = least + np.where(np.trunc(step) == step, place * step, place * wide / top)
        return np.where(counts > 0, rounded, low + unit * _apart(high, low)).astype(kind)

    def _kind(self) -> type:
        """The type of decoded values."""
        entries = self.levels if isinstance(self.levels, tuple) else (self.levels,)
        if entries[0] is not None and len(entries) == 1 and (self.least, self.most) == (0, 255):
            return np.uint8
        least, most = (np.atleast_1d(np.asarray(end, np.float64)) for end in (self.least, self.most))
        wide, far = np.atleast_1d(_apart(self.most, self.least)), np.maximum(abs(least), abs(most))
        steps = wide / np.array([math.nan if entry is None else entry - 1 for entry in entries])
        exact = (np.trunc(least) == least) & (np.trunc(steps) == steps)  # levels that are whole numbers
        small, large = np.finfo(np.float32).tiny, np.finfo(np.float32).max
        fine = (far * 2**-24 <= wide * 2**-20) & (wide > small * 2**20) & (far < large)
        if np.where(exact, far <= 2**24, fine).all():
            return np.float32
        return np.int64 if exact.all() and far.max() >= 2**53 and far.max() < 2**63 else np.float64

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """Return decoded samples as the user's data have them: (N, H, W, C) comes back so, and colours that were
        multiplied by opacity are divided by it.

        Args:
            values: (N, *shape), channels first.

        Returns:
            Them in `layout`, a view but for opacity.

        Raises:
            ValueError: another shape.
        """
        if values.shape[1:] != self.shape:
            raise ValueError(f"values have shape {values.shape}; they must be (N, {', '.join(map(str, self.shape))})")
        if self.mode == "RGBA":
            opacity = values[:, 3:].astype(np.float64)
            colour = np.divide(255.0 * values[:, :3], opacity, out=np.zeros(values[:, :3].shape), where=opacity > 0)
            values = np.concatenate([np.rint(colour).clip(0, 255), opacity], 1).astype(values.dtype)
        if self.layout.endswith("C"):
            return np.moveaxis(values, 1, -1)
        return values if "C" in self.layout or self.layout == "V" else values[:, 0]

    def _along(self, entries: Any, shape: tuple[int, ...]) -> np.ndarray:
        """One entry, or those of the channels, as an array that broadcasts against values; None becomes 0."""
        if not isinstance(entries, tuple):
            return _numbers([entries]).reshape(())
        if shape[-len(self.shape):] != self.shape:
            raise ValueError(f"values have shape {shape}; with a range for each channel it must end in {self.shape}")
        return _numbers(entries).reshape(-1, *(1,) * (len(self.shape) - 1))

    @property
    def reading(self) -> dict[str, Any]:
        """What `load_data` takes to read other picture files as these."""
        return {"size": f"{self.shape[2]}x{self.shape[1]}", "alpha": self.mode == "RGBA",
                "depth": 16 if self.mode == "I;16" else 8}

    @property
    def drawn(self) -> tuple[int, ...]:
        """Numbers of the classes that training rows have."""
        empty = set(self.empty)
        return tuple(number for number in range(len(self.classes)) if number not in empty)

    def cycle(self, count: int) -> Tensor | None:
        """The classes that were trained on in turn, (count,) int64; None without classes."""
        return torch.from_numpy(np.resize(self.drawn, count)) if self.drawn else None

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
            raise ValueError(f"data spec is {short_repr(record)}; it must be a table of its fields")
        known = [field.name for field in fields(cls)]
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        for key in [*needed, *record]:
            if key not in known or key not in record:
                fault = "missing" if key in known else "unknown"
                raise ValueError(f"data spec key {short_repr(key)} is {fault}; it must have: {', '.join(known)}")
        for key in ("shape", "classes", "conditions", "empty", "columns"):
            if not isinstance(record.get(key, []), list):
                raise ValueError(f"data spec {key} is {short_repr(record[key])}; it must be a list")
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                  for key, value in record.items()}
        return cls(**values)


def channel_first(values: np.ndarray, layout: str) -> np.ndarray:
    """Return a view of (N, *axes of layout) samples with their channels, one where it has none, before the axes of
    space."""
    if layout.endswith("C"):
        return np.moveaxis(values, -1, 1)
    return values if "C" in layout or layout == "V" else values[:, None]


def above(values: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Return values - zero as float64, exactly also where both are whole numbers that float64 cannot hold: `zero` is
    float64, or int64 and Python's own whole numbers."""
    if values.dtype.kind not in "iu" or zero.dtype.kind == "f":
        return np.subtract(values, zero, dtype=np.float64)
    # Whole numbers modulo 2^64 know their difference, whatever their own size.
    turned = np.asarray(zero.astype(object) % 2**64, dtype=np.uint64)
    more, less = values.astype(np.uint64) - turned, turned - values.astype(np.uint64)
    return np.where(values >= zero, more.astype(np.float64), -less.astype(np.float64))


def _apart(high: Any, low: Any) -> np.ndarray:
    """high - low as float64, exactly where both are whole."""
    return np.asarray(np.subtract(_numbers(high), _numbers(low)), dtype=np.float64)


def _numbers(entries: Any) -> np.ndarray:
    """Whole numbers as Python's own where any is beyond 2^53, for nothing else holds all of them; others as float64."""
    array = np.asarray(entries, dtype=object)
    array[np.equal(array, np.array(None))] = 0
    whole = all(isinstance(entry, int) for entry in array.flat)
    return array if whole and any(abs(entry) > 2**53 for entry in array.flat) else array.astype(np.float64)


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text != "" and text.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= WIDEST


def _is_range(value: object, channels: int) -> bool:
    return len(value) == channels and all(map(_is_number, value)) if isinstance(value, tuple) else _is_number(value)


def _are_names(names: object) -> bool:
    return isinstance(names, tuple) and all(map(_is_name, names)) and len(set(names)) == len(names)
