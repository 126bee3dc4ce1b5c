"""What the data of an adopted model are: their shape and range, their levels and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ornstein.arguments import printable, require_int, require_interval, short_repr
from ornstein.data import Dataset, DataSpec

__all__ = ["classes_of", "spec_of"]

PICTURES = (1, 3)  # channels of what can be drawn without more being said
BYTES = 256
MOST_CLASSES = 100_000


def classes_of(given: int | Sequence[str] | None, null: int | None, known: int | None,
               data: Dataset | None) -> tuple[int, tuple[str, ...]]:
    """How many classes a model can be told, and their names: given, of the network, or of the data; numbers where there
    are no names."""
    names = () if data is None else data.spec.classes
    if given is not None and not isinstance(given, int | np.integer):
        if isinstance(given, str) or not all(isinstance(one, str) for one in given):
            raise ValueError(f"classes is {short_repr(given)}; it must be a number, or a list of names")
        names, count = tuple(given), len(given)
    elif given is not None:
        count = require_int("classes", given, 0, MOST_CLASSES)
    else:
        # The last class of a network that has one more than there are names is none of them.
        count = (known or 0) - (bool(known) and null == (known or 0) - 1)
    if null is not None:
        require_int("null", null, 0, MOST_CLASSES if not known else known - 1)
    if count == 0 and null is not None:
        raise ValueError(f"null is {null}, but the model is told no classes; say how many with classes=")
    if known is not None and (count > known or (known and not count)):
        allowed = f"give from 1 to {known}" if known else "leave it out"
        raise ValueError(f"classes is {count}, and the network has {known}; {allowed}")
    return count, names if len(names) == count else tuple(str(number) for number in range(count))


def spec_of(shape: tuple[int, ...], classes: tuple[str, ...], ends: tuple[float, float] | None, data: Dataset | None,
            name: str) -> DataSpec:
    """The data's scale, such that the model's own values are those that it has: `ends` for the least and the most."""
    known = None if data is None else data.spec
    if known is not None and known.shape != shape:
        raise ValueError(f"data {known.name!r} has samples of shape {known.shape}, the model's are of shape {shape}; "
                         "give data of that shape")
    picture = len(shape) == 3 and shape[0] in PICTURES
    if known is None:
        least, most, levels = (0.0, 255.0, BYTES) if picture else (-1.0, 1.0, None)
        kind = "picture" if picture else "array"
        known = DataSpec(printable(name)[:80] or "adopted", kind, shape, least, most, levels)
    drawn = known.rounds or known.kind == "picture"
    known = replace(known.as_drawn(), classes=classes, empty=())
    if ends is None and not drawn:
        channels = isinstance(known.least, tuple)
        return replace(known, low=(-1.0,) * shape[0] if channels else -1.0, high=(1.0,) * shape[0] if channels else 1.0)
    least, most = require_interval("range", (-1.0, 1.0) if ends is None else list(ends))
    if (least, most) == (-1.0, 1.0):
        return known
    scaled: list[Any] = [_scale(first, last, least, most) for first, last in zip(
        *(np.atleast_1d(np.asarray(end)).tolist() for end in (known.least, known.most)), strict=True)]
    low, high = (tuple(side) if isinstance(known.least, tuple) else side[0] for side in zip(*scaled, strict=True))
    return replace(known, low=low, high=high)


def _scale(first: float, last: float, least: float, most: float) -> tuple[float, float]:
    """The values that map to -1 and 1 where `first` maps to `least` and `last` to `most`."""
    slope = (last - first) / (most - least)
    return first + (-1 - least) * slope, first + (1 - least) * slope
