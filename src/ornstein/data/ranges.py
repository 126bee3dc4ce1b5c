"""Which source values are -1 and 1: found by reading an array once, in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ornstein.data.dataset import Values, check_finite, parts
from ornstein.data.spec import MOST_LEVELS

__all__ = ["Range", "bounds", "choose"]

EXACT = 2**24  # float32 holds every whole number up to here
APART = 4  # times the narrowest channel that all channels together may span in one range
FEW_LEVELS = 256  # whole numbers of so few levels keep them, and with them one range


@dataclass(frozen=True)
class Range:
    """What `DataSpec` has of these names, and what to tell the user."""

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    levels: int | None
    notes: tuple[str, ...] = ()


def bounds(values: Values, where: str) -> tuple[list[Any], list[Any]]:
    """Return the least and the greatest value of each channel (of each entry for vectors), exactly.

    Args:
        values: (N, C, ...), N >= 1.
        where: how messages call them.

    Raises:
        ValueError: values that are not finite, or beyond float32.
    """
    check_finite(f"{where}:", values)
    low, high = [], []
    for part in parts(values):
        axes = (0, *range(2, part.ndim))
        low.append(part.min(axis=axes))
        high.append(part.max(axis=axes))
    least, most = np.min(low, axis=0).tolist(), np.max(high, axis=0).tolist()
    if max(-min(least), max(most)) > float(np.finfo(np.float32).max):
        raise ValueError(f"{where}: has values {min(least)}..{max(most)}; they must lie within +-3.4e38, "
                         "the range of float32")
    return least, most


def choose(dtype: np.dtype, least: list[Any], most: list[Any]) -> Range:
    """Return the range of an array, for all channels in one unless they lie too far apart.

    Bytes map from 0..255 whatever they hold, values within 0..1 or -1..1 from there, others from least to greatest.

    Args:
        dtype: type of the values.
        least: the least value of each channel.
        most: the greatest.
    """
    if dtype.kind == "b" or dtype == np.uint8:
        top = 255 if dtype == np.uint8 else 1
        return Range(0.0, float(top), top + 1)
    low, high, levels, notes = min(least), max(most), None, []
    if dtype.kind in "iu":
        if 2 <= high - low + 1 <= MOST_LEVELS and max(-low, high) <= EXACT:
            levels = high - low + 1
        if max(-low, high) > EXACT:
            notes.append(f"whole numbers beyond {EXACT} are rounded to float32 in samples")
    widths = [one - other for one, other in zip(most, least, strict=True) if one > other]
    if len(least) > 1 and widths and high - low > APART * min(widths) and (levels is None or levels > FEW_LEVELS):
        pairs = [_widened(one, other) for one, other in zip(least, most, strict=True)]
        notes.append(f"the {len(pairs)} channels lie too far apart for one range: each maps from its own to -1..1")
        if flat := sum(one == other for one, other in zip(least, most, strict=True)):
            notes.append(f"channels of one value only: {flat}; their range is widened by 0.5 on either side")
        return Range(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs), None, tuple(notes))
    if dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif dtype.kind == "f" and low >= -1 and high <= 1:
        low, high = -1.0, 1.0
    if low == high:
        notes.append(f"every value is {low:g}: the range is widened by 0.5 on either side")
    low, high = _widened(low, high)
    return Range(low, high, levels, (*notes, f"source values {low:g}..{high:g} map to -1..1"))


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low - 0.5, high + 0.5) if low == high else (float(low), float(high))
