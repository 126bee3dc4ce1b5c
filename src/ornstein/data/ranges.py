"""What source values are to a model: scale, levels and ends, from reading an array once, in parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ornstein.data.dataset import Values, check_finite, parts
from ornstein.data.spec import WIDEST, above

__all__ = ["SEEN", "Range", "choose", "survey"]

APART = 4  # times the narrowest channel that all channels together may span in one range
FEW_LEVELS = 256  # whole numbers of so few levels share a range with most of their channels, not with the narrowest
DEVIATIONS = 4  # standard deviations to either side of the mean that -1..1 holds at most, unless the range is shorter
STEPS = 8  # steps between levels to either side that -1..1 holds at least: what is coarser is learnt at any scale
SEEN = 1 / 8  # share of bytes, of 0..1 or of -1..1 from which a picture is drawn in that range and not in its own


@dataclass(frozen=True)
class Range:
    """What `DataSpec` has of these names, and what to tell the user."""

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    levels: int | tuple[int | None, ...] | None
    least: float | tuple[float, ...]
    most: float | tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Channel:
    """The values of a channel, or of all: ends, mean less the least, standard deviation, and, of whole numbers, the
    greatest number that divides all differences (0: there are none)."""

    least: float
    most: float
    mean: float
    std: float
    step: int | None


def survey(values: Values, where: str) -> dict[str, list[Any]]:
    """Return what `choose` needs of each channel of (N, C, ...) values, or of each entry of vectors, as plain JSON
    values."""
    check_finite(f"{where}:", values)
    channels, count = values.shape[1], values.shape[0] * math.prod(values.shape[2:])
    whole = values.dtype.kind in "iu"
    # Sums are of differences from a first value, exact also where a large offset would swallow them.
    first = values[:1].reshape(1, channels, -1)[0, :, 0].tolist()
    least, most, step = [], [], np.zeros(channels, dtype=np.uint64)
    total, square = np.zeros(channels), np.zeros(channels)
    for part in parts(values):
        rows = part.reshape(len(part), channels, -1)
        least.append(rows.min(axis=(0, 2)))
        most.append(rows.max(axis=(0, 2)))
        if max(-float(least[-1].min()), float(most[-1].max())) > WIDEST:
            raise ValueError(f"{where}: has values {least[-1].min()}..{most[-1].max()}; they must lie within "
                             f"+-{WIDEST:g}")
        zero = np.reshape(np.array(first, dtype=object if whole else np.float64), (-1, 1))
        apart = above(rows, zero)
        total += apart.sum(axis=(0, 2))
        square += (apart**2).sum(axis=(0, 2))
        if whole:
            # A few rows settle most channels.
            for some in (apart[:16], apart):
                open_ = np.flatnonzero(step != 1)
                if len(open_):
                    moved = np.abs(some[:, open_]).clip(max=2.0**63).astype(np.uint64).swapaxes(0, 1)
                    step[open_] = np.gcd(step[open_], np.gcd.reduce(moved.reshape(len(open_), -1), axis=1))
    low = np.min(least, axis=0).tolist()
    mean = [one / count + (start - end) for one, start, end in zip(total, first, low, strict=True)]
    std = np.sqrt(np.maximum(square / count - (total / count) ** 2, 0)).tolist()
    high = np.max(most, axis=0).tolist()
    # Differences beyond 2^53 were rounded, and tell no divisor.
    steps = [int(one) if end - start <= 2**53 else 1 for one, start, end in zip(step, low, high, strict=True)]
    return {"least": low, "most": high, "mean": list(map(float, mean)), "std": std,
            "step": steps if whole else [None] * channels}


def choose(dtype: np.dtype, channels: dict[str, list[Any]], picture: bool = False) -> Range:
    """Return the range of an array, for all channels in one unless they lie too far apart.

    The scale, -1..1, is from the least to the greatest value, or from 4 standard deviations below the mean to 4 above
    where that is less: it follows from the data alone, so other units, scale or offset, change nothing. What a picture
    is drawn in is another matter: 0..255, 0..1 or -1..1 where the values fill a good part of it. The channels of what
    may be a picture share a range as long as their ends lie near.
    """
    if dtype.kind == "b":
        return Range(0, 1, 2, 0, 1)
    each = [_Channel(*entry) for entry in zip(*(channels[key] for key in ("least", "most", "mean", "std", "step")),
                                              strict=True)]
    whole = _whole(each)
    varied = sorted(one.most - one.least if picture else _scale(one)[1] - _scale(one)[0]
                    for one in each if one.most > one.least)
    mixed = len({one.step is None for one in each}) > 1
    few = whole.step and (whole.most - whole.least) // whole.step < FEW_LEVELS
    # Among whole numbers of few levels a narrow channel may be the edge of a picture; many are other quantities.
    narrow = varied[(len(varied) - 1) // 2 if few else 0] if varied else 0
    if mixed or (len(each) > 1 and varied and whole.most - whole.least > APART * narrow):
        return _each(each, mixed)
    natural = _natural(dtype, whole)
    inside = natural or (whole.least, whole.most)
    notes = []
    if dtype == np.uint8 and natural:
        wide = whole.std if whole.most > whole.least else math.inf
        whole = _Channel(0, 255, whole.least + whole.mean, wide, 1)
    black, white = f"{whole.least:.12g}", f"{whole.most:.12g}"
    ends = f"{black}..{white}"
    if whole.most > whole.least and not (dtype == np.uint8 and natural):
        notes.append(f"source values {ends} map to -1..1")
        if natural is None and (dtype == np.uint8 or (picture and whole.least >= 0 and whole.most <= 1)):
            notes.append(f"pictures of so few values are drawn from {black}, black, to {white}, white")
    low, high = _scale(whole)
    levels = _levels(whole)
    if whole.least == whole.most:
        notes, inside = [f"every value is {whole.least:.12g}"], (low, high)
    elif (low, high) != (whole.least, whole.most):
        notes = [f"nearly all of the values {ends} lie close together: {low:.12g}..{high:.12g} map to -1..1, others "
                 "beyond" + ("; likelihoods are densities, not bits" if levels else "")]
    if levels:
        inside = (low, high) if whole.least == whole.most else (whole.least, whole.most)
    return Range(low, high, levels, *inside, tuple(notes))


def _each(each: list[_Channel], mixed: bool) -> Range:
    """A range for every channel."""
    scales = [_scale(one) for one in each]
    ends = [(one.least, one.most) if one.most > one.least else scale for one, scale in zip(each, scales, strict=True)]
    why = "hold whole numbers and others" if mixed else "lie too far apart for one range"
    notes = [f"the {len(each)} channels {why}: each maps from its own range to -1..1"]
    if flat := sum(one.least == one.most for one in each):
        notes.append(f"channels of one value only: {flat}; they come back as they are")
    (low, high), (least, most) = (zip(*pairs, strict=True) for pairs in (scales, ends))
    return Range(low, high, tuple(map(_levels, each)), least, most, tuple(notes))


def _whole(each: list[_Channel]) -> _Channel:
    """The values of all channels together."""
    least, most = min(one.least for one in each), max(one.most for one in each)
    means = np.array([one.least - least + one.mean for one in each], dtype=np.float64)
    std = math.sqrt(np.mean(np.square([one.std for one in each])) + means.var())
    step = None if any(one.step is None for one in each) else math.gcd(*(one.step or 0 for one in each),
                                                      *(int(one.least - least) for one in each))
    return _Channel(least, most, float(means.mean()), std, step)


def _scale(one: _Channel) -> tuple[float, float]:
    """Values that map to -1 and 1; the one value of a channel that has no other maps to 0."""
    if one.least == one.most:
        low, high = sorted((0 * one.least, 2 * one.least))
        return (low, high) if high > low else (-1, 1)
    width, mean, reach = one.most - one.least, one.least + one.mean, DEVIATIONS * one.std
    if one.step is None:
        return (one.least, one.most) if 2 * reach >= width else (mean - reach, mean + reach)
    # On levels only where it matters: likelihoods are probabilities as long as the scale is from end to end.
    if 4 * max(reach, STEPS * one.step) >= width:
        return one.least, one.most
    half = max(STEPS, round(reach / one.step))
    low = one.least + one.step * (round(one.mean / one.step) - half)
    return low, low + 2 * half * one.step


def _levels(one: _Channel) -> int | None:
    """How many levels the values have; the one value of a channel that has no other is the middle of three."""
    if one.least == one.most:
        return 3
    count = int((one.most - one.least) // one.step) + 1 if one.step else 2**64
    return count if count <= 2**53 else None


def _natural(dtype: np.dtype, whole: _Channel) -> tuple[float, float] | None:
    """The range that pictures of these values are drawn in by custom, where they fill a good part of it."""
    if dtype == np.uint8:
        width = whole.most - whole.least
        return (0, 255) if width == 0 or (whole.step == 1 and width >= SEEN * 256) else None
    if dtype.kind != "f":
        return None
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        if low <= whole.least and whole.most <= high and whole.most - whole.least >= SEEN * (high - low):
            return low, high
    return None
