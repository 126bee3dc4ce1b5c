"""The mapping from source values to model values in [-1, 1] and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.arguments import printable, require, short_repr

__all__ = ["LAYOUTS", "MAX_LEVELS", "MAX_MAGNITUDE", "DataSpec", "channel_first", "printable", "subtract_exactly"]

# Axes of one sample in the source, by the rank of the model's shape; the first is the default.
LAYOUTS = {1: ("V",), 2: ("CL", "L", "LC"), 3: ("CHW", "HW", "HWC"), 4: ("CDHW", "DHW", "DHWC")}
MODE_CHANNELS = {"RGBA": (4, 255), "I;16": (1, 65535)}  # number of channels and their maximum
RANKS = {"picture": (3,), "array": (1, 2, 3, 4)}
MAX_LEVELS = 65536  # float32 in [-1, 1] separates this many levels with room to spare
MAX_MAGNITUDE = 1e100  # of values and ranges, and of 1 / the narrowest range: float64 can square them


@dataclass(frozen=True)
class DataSpec:
    """Everything a checkpoint needs to turn samples back into source values.

    encode(v) = 2 (v - low) / (high - low) - 1

    `low` and `high` are the scale that a model learns on, which follows the spread of the data; `least` and `most` are
    the range of the data, in which pictures are drawn and levels are counted.

    Args:
        name: short name of the source ("digits", a folder's name, a file's stem), printable text.
        kind: "picture" if samples can be drawn as pictures, else "array".
        shape: of one sample in the model, channels first, each side >= 1: (C, H, W) for a picture; (D,), (C, L),
            (C, H, W) or (C, D, H, W) for an array.
        low: source value that maps to -1, finite; or a tuple with one value for each entry of the first axis.
        high: source value that maps to 1, above low by 1e-100 to 1e100; a tuple if and only if low is one.
        levels: number of evenly spaced values from least to most, 2..2^53; None if continuous; a tuple of either if and
            only if low is one.
        classes: class names by index, distinct printable text; () without classes.
        layout: axes of one sample in the source, in letters: V; L, CL or LC; HW, CHW or HWC; DHW, CDHW or DHWC; ""
            stands for V, CL, CHW or CDHW.
        conditions: names of the numbers in a vector condition, distinct printable text; () if there are none or if
            there are classes.
        empty: indices of the classes without training rows, ascending; a model knows nothing about them.
        least: source value that is drawn black and is the first level; `low` if None; a tuple if low is one.
        most: source value that is drawn white and is the last level; `high` if None; a tuple if low is one.
        mode: "RGBA" if the fourth channel is opacity, 0 (transparent) to 255, and the colours are premultiplied by
            opacity / 255; "I;16" for 16-bit grey, 0 to 65535; "" otherwise.
        columns: names of the entries of a vector, distinct printable text; () if they have none.

    Raises:
        ValueError: a field has the wrong type or is out of range; the message names it.
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
        for name, default in (("least", "low"), ("most", "high"), ("levels", "low")):
            if getattr(self, name) is None and (name != "levels" or isinstance(self.low, tuple)):
                value = getattr(self, default)
                object.__setattr__(self, name, (None,) * len(value) if name == "levels" else value)
        for key, is_valid, allowed in self._checks():
            if not is_valid:
                raise ValueError(f"data spec {key} is {short_repr(getattr(self, key))}; it must be {allowed}")

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        # A generator: each check may rely on those before it.
        yield "name", _is_name(self.name), "printable text"
        yield "kind", isinstance(self.kind, str) and self.kind in RANKS, " or ".join(RANKS)
        is_valid = isinstance(self.shape, tuple) and all(type(side) is int and side >= 1 for side in self.shape)
        ranks = RANKS[self.kind]
        count = f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else f"{ranks[0]}"
        yield "shape", is_valid and len(self.shape) in ranks, f"{count} whole numbers >= 1 for kind {self.kind}"
        channels = self.shape[0]
        for low, high in (("low", "high"), ("least", "most")):
            first, last = getattr(self, low), getattr(self, high)
            for key, value in ((low, first), (high, last)):
                yield key, _is_range(value, channels), f"a finite number, or a tuple of {channels}, one per channel"
                yield key, isinstance(self.low, tuple) == isinstance(value, tuple), (
                    f"a tuple if and only if low = {self.low} is one")
            gaps = _difference(last, first)
            yield high, bool(((gaps >= 1 / MAX_MAGNITUDE) & (gaps <= MAX_MAGNITUDE)).all()), (
                f"above {low} = {first} (by 1e-100 to 1e100)")
        entries = self.levels if isinstance(self.levels, tuple) else (self.levels,)
        is_valid = all(entry is None or (type(entry) is int and 2 <= entry <= 2**53) for entry in entries)
        yield "levels", is_valid, "a whole number 2..2^53, or None"
        yield "levels", len(entries) == (channels if isinstance(self.low, tuple) else 1), (
            f"one entry for each of the {channels} channels if low is a tuple")
        yield "classes", _are_names(self.classes), "distinct printable names"
        layouts = LAYOUTS[len(self.shape)]
        yield "layout", isinstance(self.layout, str) and self.layout in layouts, (
            f"{' or '.join(layouts)} for shape {self.shape}")
        yield "layout", self.layout == "V" or "C" in self.layout or channels == 1, (
            f"one with C, because there are {channels} channels")
        yield "conditions", _are_names(self.conditions), "distinct printable names"
        yield "conditions", not (self.conditions and self.classes), "() if there are classes"
        yield "columns", self.columns == () or (
            _are_names(self.columns) and self.layout == "V" and len(self.columns) == channels), (
            "a distinct printable name for each entry of a vector, or () for none")
        is_ascending = isinstance(self.empty, tuple) and all(type(k) is int for k in self.empty) and (
            list(self.empty) == sorted(set(self.empty)))
        yield "empty", is_ascending and (
            not self.empty or set(self.empty) < set(range(len(self.classes)))), (
            "indices of classes, ascending, and not of all classes")
        modes = ("", *MODE_CHANNELS)
        yield "mode", isinstance(self.mode, str) and self.mode in modes, " or ".join(map(repr, modes))
        channel_count, maximum = MODE_CHANNELS.get(self.mode, (channels, None))
        in_range = maximum is None or bool(
            (_exact_numbers(self.least) >= 0).all() and (_exact_numbers(self.most) <= maximum).all())
        yield "mode", maximum is None or (self.kind == "picture" and channels == channel_count and in_range), (
            f"'' except for pictures with {channel_count} channels of values from 0 to {maximum}")

    @property
    def rounds(self) -> bool:
        """Whether decoding rounds to levels in any channel."""
        return any(self.levels) if isinstance(self.levels, tuple) else self.levels is not None

    @property
    def bins(self) -> int | None:
        """The number of levels if they are evenly spaced from -1 to 1 in the model, as likelihoods need; else None."""
        if not isinstance(self.levels, int) or (self.low, self.high) != (self.least, self.most):
            return None
        return self.levels if self.levels <= MAX_LEVELS else None

    def as_drawn(self) -> DataSpec:
        """Return the spec that maps `least` and `most` to -1 and 1."""
        values: dict[str, Any] = {**vars(self), "low": self.least, "high": self.most}
        return DataSpec(**values)

    def unrounded(self) -> DataSpec:
        """Return the spec that neither clips nor rounds to levels, for means and deviations of samples."""
        return replace(self, levels=None)

    @property
    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """`least` and `most` as float64, broadcastable against a sample."""
        first, last = (self._per_channel(end, self.shape).astype(np.float64) for end in (self.least, self.most))
        return first, last

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """`least` and `most` as model values, float64, broadcastable against a sample: -1 and 1 unless the scale
        differs from the range of the data."""
        span = _difference(self.high, self.low)
        first, last = ((2 * _difference(end, self.low) / span - 1).reshape(-1, *(1,) * (len(self.shape) - 1))
                       for end in (self.least, self.most))
        return first, last

    def encode(self, values: np.ndarray) -> torch.Tensor:
        """Return source values as model values.

        Args:
            values: source values, channels first, of any shape; it must end in `shape` if each channel has its own
                range.

        Returns:
            float32 of the same shape, in [-1, 1] for values in low..high.

        Raises:
            ValueError: each channel has its own range, and the shape does not end in `shape`.
        """
        low, high = self._per_channel(self.low, values.shape), self._per_channel(self.high, values.shape)
        # Subtract before casting to float32, which would lose 1e9 + 0.001; small whole numbers are exact either way.
        is_narrow = values.dtype.kind in "biu" and values.dtype.itemsize <= 2 and np.equal(np.trunc(low), low).all()
        x = torch.from_numpy(np.subtract(values, low, dtype=np.float32) if is_narrow else subtract_exactly(values, low))
        # Divide by the range: multiplying by its inverse may miss 1.
        return x.div_(torch.from_numpy(_difference(high, low)).to(x)).mul_(2).sub_(1).float()

    def on_levels(self, x: torch.Tensor) -> torch.Tensor:
        """Round model values to the levels of the data, if there are any."""
        return self.encode(self.decode(x)) if self.rounds else x

    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Return model values as source values, clipped and rounded to the levels if there are any.

        Args:
            x: model values of any shape, floating type and device; shape as in `encode`.

        Returns:
            The same shape, channels first (`arrange` restores the source's): uint8 for levels of 0..255; else float32
            if it separates a million values of the range, or all whole numbers in it; else float64, or int64 for whole
            numbers beyond 2^53. Without levels, values are mapped but not clipped.

        Raises:
            ValueError: NaN in a channel with levels, or a shape as in `encode`.
        """
        low, high, least, most = (self._per_channel(end, tuple(x.shape)) for end in
                                  (self.low, self.high, self.least, self.most))
        fraction = (x.detach().cpu().double().numpy() + 1) / 2
        dtype = self._decoded_dtype()
        level_counts = self._per_channel(self.levels, tuple(x.shape)).astype(np.float64)
        if not level_counts.any():
            return (low + fraction * _difference(high, low)).astype(dtype)
        nan_count = int((np.isnan(fraction) & (level_counts > 0)).sum())
        if nan_count:
            raise ValueError(f"x holds {nan_count} values that are not a number; decoding needs numbers")
        last, span = np.maximum(level_counts, 2) - 1, _difference(most, least)
        index = np.rint(((fraction * _difference(high, low) + _difference(low, least)) / span).clip(0, 1) * last)
        if dtype == np.int64:
            least, step = (array.astype(object) for array in (least, (most - least) // last.astype(np.int64)))
            return (least + index.astype(np.int64) * step).astype(dtype)
        step = span / last
        # A whole step gives whole products; otherwise divide last for accuracy.
        rounded = least + np.where(np.trunc(step) == step, index * step, index * span / last)
        return np.where(level_counts > 0, rounded, low + fraction * _difference(high, low)).astype(dtype)

    def _decoded_dtype(self) -> type:
        """The dtype of decoded values."""
        entries = self.levels if isinstance(self.levels, tuple) else (self.levels,)
        if entries[0] is not None and len(entries) == 1 and (self.least, self.most) == (0, 255):
            return np.uint8
        least, most = (np.atleast_1d(np.asarray(end, np.float64)) for end in (self.least, self.most))
        span, magnitude = np.atleast_1d(_difference(self.most, self.least)), np.maximum(abs(least), abs(most))
        steps = span / np.array([math.nan if entry is None else entry - 1 for entry in entries])
        is_whole = (np.trunc(least) == least) & (np.trunc(steps) == steps)  # of all levels
        tiny, huge = np.finfo(np.float32).tiny, np.finfo(np.float32).max
        fits_float32 = (magnitude * 2**-24 <= span * 2**-20) & (span > tiny * 2**20) & (magnitude < huge)
        if np.where(is_whole, magnitude <= 2**24, fits_float32).all():
            return np.float32
        return np.int64 if is_whole.all() and magnitude.max() >= 2**53 and magnitude.max() < 2**63 else np.float64

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """Return decoded samples in the layout of the source, with premultiplied colours divided by opacity.

        Args:
            values: (N, *shape), channels first.

        Returns:
            The samples in `layout`; a view, except with opacity.

        Raises:
            ValueError: the shape is not (N, *shape).
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

    def _per_channel(self, entries: Any, shape: tuple[int, ...]) -> np.ndarray:
        """One entry, or one per channel, as an array that broadcasts against values; None becomes 0."""
        if not isinstance(entries, tuple):
            return _exact_numbers([entries]).reshape(())
        if shape[-len(self.shape):] != self.shape:
            raise ValueError(f"values have shape {shape}; with a range per channel it must end in {self.shape}")
        return _exact_numbers(entries).reshape(-1, *(1,) * (len(self.shape) - 1))

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments with which `load_data` reads other picture files like these."""
        return {"size": f"{self.shape[2]}x{self.shape[1]}", "alpha": self.mode == "RGBA",
                "depth": 16 if self.mode == "I;16" else 8}

    @property
    def drawn(self) -> tuple[int, ...]:
        """Indices of the classes that have training rows."""
        empty = set(self.empty)
        return tuple(index for index in range(len(self.classes)) if index not in empty)

    def cycle(self, count: int) -> Tensor | None:
        """Return the classes with training rows in turn, (count,) int64; None without classes."""
        return torch.from_numpy(np.resize(self.drawn, count)) if self.drawn else None

    def label(self, name: str) -> int:
        """Return the index of a class, given its name or else its index as text ("3").

        Raises:
            ValueError: the class is unknown (the message suggests the nearest) or has no training rows, or the data
                have no classes.
        """
        if not self.classes:
            raise ValueError(f"class {name!r} cannot be chosen: data {self.name!r} has no classes")
        allowed = [self.classes[index] for index in self.drawn]
        if name in self.classes:
            index = self.classes.index(name)
        elif name.isascii() and name.isdecimal() and len(name) < 9 and int(name) < len(self.classes):
            index = int(name)
        else:
            index = self.classes.index(require("class", name, allowed))
        if index in self.empty:
            raise ValueError(f"class {name!r} cannot be chosen: it has no training samples (allowed: "
                             f"{', '.join(allowed)})")
        return index

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values: tuples become lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> DataSpec:
        """Return the spec that `as_dict` wrote, in this version or before fields with defaults were added.

        Raises:
            ValueError: a key is unknown or missing, or a value has the wrong type; the message names the key.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"data spec is {short_repr(record)}; it must be a table of its fields")
        known = [field.name for field in fields(cls)]
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        for key in [*needed, *record]:
            if key not in known or key not in record:
                problem = "missing" if key in known else "unknown"
                raise ValueError(f"data spec key {short_repr(key)} is {problem}; it must have: {', '.join(known)}")
        for key in ("shape", "classes", "conditions", "empty", "columns"):
            if not isinstance(record.get(key, []), list):
                raise ValueError(f"data spec {key} is {short_repr(record[key])}; it must be a list")
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                  for key, value in record.items()}
        return cls(**values)


def channel_first(values: np.ndarray, layout: str) -> np.ndarray:
    """Return a view of (N, *axes of layout) samples with channels first; one channel if the layout has none."""
    if layout.endswith("C"):
        return np.moveaxis(values, -1, 1)
    return values if "C" in layout or layout == "V" else values[:, None]


def subtract_exactly(values: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Return values - zero as float64, rounded once even if both are whole numbers that float64 cannot hold; `zero`
    holds float64, int64 or Python integers."""
    if values.dtype.kind not in "iu" or zero.dtype.kind == "f":
        return np.subtract(values, zero, dtype=np.float64)
    # Differences modulo 2^64 are exact, whatever the size of the numbers.
    wrapped = np.asarray(zero.astype(object) % 2**64, dtype=np.uint64)
    up, down = values.astype(np.uint64) - wrapped, wrapped - values.astype(np.uint64)
    return np.where(values >= zero, up.astype(np.float64), -down.astype(np.float64))


def _difference(high: Any, low: Any) -> np.ndarray:
    """high - low as float64, rounded once if both are whole."""
    return np.asarray(np.subtract(_exact_numbers(high), _exact_numbers(low)), dtype=np.float64)


def _exact_numbers(entries: Any) -> np.ndarray:
    """The entries as float64, or as Python integers if all are whole and one is beyond 2^53; None becomes 0."""
    array = np.asarray(entries, dtype=object)
    array[np.equal(array, np.array(None))] = 0
    is_whole = all(isinstance(entry, int) for entry in array.flat)
    return array if is_whole and any(abs(entry) > 2**53 for entry in array.flat) else array.astype(np.float64)


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text != "" and text.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_MAGNITUDE


def _is_range(value: object, channels: int) -> bool:
    return len(value) == channels and all(map(_is_number, value)) if isinstance(value, tuple) else _is_number(value)


def _are_names(names: object) -> bool:
    return isinstance(names, tuple) and all(map(_is_name, names)) and len(set(names)) == len(names)
