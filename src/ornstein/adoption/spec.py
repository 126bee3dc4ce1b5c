"""The data description of an adopted model: shape, range, levels and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ornstein.arguments import printable, require_int, require_interval, short_repr
from ornstein.data import Dataset, DataSpec

__all__ = ["build_spec", "resolve_classes"]

PICTURE_CHANNELS = (1, 3)  # of samples that are taken for pictures without data
BYTE_LEVELS = 256
MAX_CLASSES = 100_000


def resolve_classes(requested: int | Sequence[str] | None, null: int | None, network_classes: int | None,
                    data: Dataset | None) -> tuple[int, tuple[str, ...]]:
    """The number and names of the classes: as requested, of the network, or of the data; numbers if there are no names.
    """
    names = () if data is None else data.spec.classes
    if requested is not None and not isinstance(requested, int | np.integer):
        if isinstance(requested, str) or not all(isinstance(name, str) for name in requested):
            raise ValueError(f"classes is {short_repr(requested)}; it must be a number, or a list of names")
        names, count = tuple(requested), len(requested)
    elif requested is not None:
        count = require_int("classes", requested, 0, MAX_CLASSES)
    else:
        # The null class is not counted if it is the network's last.
        count = (network_classes or 0) - (bool(network_classes) and null == (network_classes or 0) - 1)
    if null is not None:
        require_int("null", null, 0, MAX_CLASSES if not network_classes else network_classes - 1)
    if count == 0 and null is not None:
        raise ValueError(f"null is {null}, but the model has no classes; give their number as classes=")
    if network_classes is not None and (count > network_classes or (network_classes and not count)):
        remedy = f"give from 1 to {network_classes}" if network_classes else "leave it out"
        raise ValueError(f"classes is {count}, and the network has {network_classes}; {remedy}")
    return count, names if len(names) == count else tuple(str(number) for number in range(count))


def build_spec(shape: tuple[int, ...], classes: tuple[str, ...], ends: tuple[float, float] | None,
               data: Dataset | None, name: str) -> DataSpec:
    """Describe the data, scaled so that `ends` are the model's values for their minimum and maximum."""
    known = None if data is None else data.spec
    if known is not None and known.shape != shape:
        raise ValueError(f"data {known.name!r} has samples of shape {known.shape}, the model's are of shape {shape}; "
                         "give data of that shape")
    if known is None:
        is_picture = len(shape) == 3 and shape[0] in PICTURE_CHANNELS
        minimum, maximum, levels = (0.0, 255.0, BYTE_LEVELS) if is_picture else (-1.0, 1.0, None)
        kind = "picture" if is_picture else "array"
        known = DataSpec(printable(name)[:80] or "adopted", kind, shape, minimum, maximum, levels)
    has_levels = known.rounds or known.kind == "picture"
    known = replace(known.as_drawn(), classes=classes, empty=())
    has_channels = isinstance(known.least, tuple)
    if ends is None and not has_levels:
        return replace(known, low=(-1.0,) * shape[0] if has_channels else -1.0,
                       high=(1.0,) * shape[0] if has_channels else 1.0)
    start, end = require_interval("range", (-1.0, 1.0) if ends is None else list(ends))
    if (start, end) == (-1.0, 1.0):
        return known
    bounds: list[Any] = [_preimages(minimum, maximum, start, end) for minimum, maximum in zip(
        *(np.atleast_1d(np.asarray(bound)).tolist() for bound in (known.least, known.most)), strict=True)]
    low, high = (tuple(bound) if has_channels else bound[0] for bound in zip(*bounds, strict=True))
    return replace(known, low=low, high=high)


def _preimages(minimum: float, maximum: float, start: float, end: float) -> tuple[float, float]:
    """The values that are mapped to -1 and 1 if `minimum` is mapped to `start` and `maximum` to `end`."""
    slope = (maximum - minimum) / (end - start)
    return minimum + (-1 - start) * slope, minimum + (1 - start) * slope
