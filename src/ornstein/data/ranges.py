"""The scale, levels and range of source values, measured in one pass over an array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ornstein.data.dataset import Values, check_finite, chunks
from ornstein.data.spec import MAX_MAGNITUDE, subtract_exactly

__all__ = ["MIN_FILL", "Range", "choose_range", "measure_channels"]

MAX_SPAN_RATIO = 4  # if all channels together span more than this many times the narrowest, each gets its own range
FEW_LEVELS = 256  # whole numbers with at most this many levels are compared with the median channel, not the narrowest
MAX_DEVIATIONS = 4  # standard deviations on either side of the mean that -1..1 spans at most
MIN_STEPS = 8  # levels on either side of the middle that -1..1 spans at least: coarser data are learned at any scale
MIN_FILL = 1 / 8  # share of 0..255, 0..1 or -1..1 that values must fill for pictures to be drawn in that range


@dataclass(frozen=True)
class Range:
    """The fields of `DataSpec` with these names, and notes for the user."""

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    levels: int | tuple[int | None, ...] | None
    least: float | tuple[float, ...]
    most: float | tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Channel:
    """Statistics of one channel, or of all: minimum, maximum, mean minus minimum, standard deviation, and for whole
    numbers the greatest common divisor of all differences (0 if all are equal)."""

    least: float
    most: float
    mean: float
    std: float
    step: int | None

    @property
    def width(self) -> float:
        """Maximum minus minimum."""
        return self.most - self.least


def measure_channels(values: Values, where: str) -> dict[str, list[Any]]:
    """Return the statistics of each channel of (N, C, ...) values, or of each entry of vectors, as JSON values."""
    check_finite(f"{where}:", values)
    channels, count = values.shape[1], values.shape[0] * math.prod(values.shape[2:])
    is_whole = values.dtype.kind in "iu"
    # Sum differences from the first value: a large offset would swallow the values themselves.
    first = values[:1].reshape(1, channels, -1)[0, :, 0].tolist()
    least, most, step = [], [], np.zeros(channels, dtype=np.uint64)
    total, square = np.zeros(channels), np.zeros(channels)
    for chunk in chunks(values):
        rows = chunk.reshape(len(chunk), channels, -1)
        least.append(rows.min(axis=(0, 2)))
        most.append(rows.max(axis=(0, 2)))
        if max(-float(least[-1].min()), float(most[-1].max())) > MAX_MAGNITUDE:
            raise ValueError(f"{where}: has values {least[-1].min()}..{most[-1].max()}; they must be within "
                             f"+-{MAX_MAGNITUDE:g}")
        zero = np.reshape(np.array(first, dtype=object if is_whole else np.float64), (-1, 1))
        offsets = subtract_exactly(rows, zero)
        total += offsets.sum(axis=(0, 2))
        square += (offsets**2).sum(axis=(0, 2))
        if is_whole:
            # A few rows reduce most channels to a step of 1.
            for subset in (offsets[:16], offsets):
                pending = np.flatnonzero(step != 1)
                if len(pending):
                    distances = np.abs(subset[:, pending]).clip(max=2.0**63).astype(np.uint64).swapaxes(0, 1)
                    step[pending] = np.gcd(step[pending], np.gcd.reduce(distances.reshape(len(pending), -1), axis=1))
    low = np.min(least, axis=0).tolist()
    mean = [offset / count + (start - minimum) for offset, start, minimum in zip(total, first, low, strict=True)]
    std = np.sqrt(np.maximum(square / count - (total / count) ** 2, 0)).tolist()
    high = np.max(most, axis=0).tolist()
    # Differences beyond 2^53 were rounded and have no meaningful divisor.
    steps = [int(divisor) if maximum - minimum <= 2**53 else 1
             for divisor, minimum, maximum in zip(step, low, high, strict=True)]
    return {"least": low, "most": high, "mean": list(map(float, mean)), "std": std,
            "step": steps if is_whole else [None] * channels}


def choose_range(dtype: np.dtype, statistics: dict[str, list[Any]], is_picture: bool = False) -> Range:
    """Return the range of an array: one for all channels, unless their values lie too far apart.

    -1..1 spans minimum to maximum, or 4 standard deviations on either side of the mean if that is less. This depends
    on the data alone, so a change of units (scale or offset) changes nothing. The range in which pictures are drawn is
    separate: 0..255, 0..1 or -1..1 if the values fill enough of it. Channels of a possible picture share a range if
    their limits are close.
    """
    if dtype.kind == "b":
        return Range(0, 1, 2, 0, 1)
    columns = (statistics[key] for key in ("least", "most", "mean", "std", "step"))
    channels = [_Channel(*entries) for entries in zip(*columns, strict=True)]
    combined = _combined(channels)
    widths = sorted(channel.width if is_picture else _scale_of(channel)[1] - _scale_of(channel)[0]
                    for channel in channels if channel.width > 0)
    is_mixed = len({channel.step is None for channel in channels}) > 1
    has_few_levels = combined.step and combined.width // combined.step < FEW_LEVELS
    # With few levels, a narrow channel may be the edge of a picture; with many, it is another quantity.
    reference = widths[(len(widths) - 1) // 2 if has_few_levels else 0] if widths else 0
    if is_mixed or (len(channels) > 1 and widths and combined.width > MAX_SPAN_RATIO * reference):
        return _range_per_channel(channels, is_mixed)
    customary = _customary_range(dtype, combined)
    extent = customary or (combined.least, combined.most)
    notes = []
    if dtype == np.uint8 and customary:
        std = combined.std if combined.width > 0 else math.inf
        combined = _Channel(0, 255, combined.least + combined.mean, std, 1)
    black, white = f"{combined.least:.12g}", f"{combined.most:.12g}"
    ends = f"{black}..{white}"
    if combined.width > 0 and not (dtype == np.uint8 and customary):
        notes.append(f"source values {ends} map to -1..1")
        if customary is None and (dtype == np.uint8 or (is_picture and combined.least >= 0 and combined.most <= 1)):
            notes.append(f"pictures in so narrow a range are drawn from {black}, black, to {white}, white")
    low, high = _scale_of(combined)
    levels = _level_count(combined)
    if combined.width == 0:
        notes, extent = [f"every value is {combined.least:.12g}"], (low, high)
    elif (low, high) != (combined.least, combined.most):
        notes = [f"nearly all values of {ends} lie close together: {low:.12g}..{high:.12g} map to -1..1, others "
                 "beyond" + ("; likelihoods are densities, not bits" if levels else "")]
    if levels:
        extent = (low, high) if combined.width == 0 else (combined.least, combined.most)
    return Range(low, high, levels, *extent, tuple(notes))


def _range_per_channel(channels: list[_Channel], is_mixed: bool) -> Range:
    """A separate range for each channel."""
    scales = [_scale_of(channel) for channel in channels]
    ends = [(channel.least, channel.most) if channel.width > 0 else scale
            for channel, scale in zip(channels, scales, strict=True)]
    reason = "hold both whole numbers and fractions" if is_mixed else "lie too far apart for one range"
    notes = [f"the {len(channels)} channels {reason}: each maps from its own range to -1..1"]
    if constant := sum(channel.width == 0 for channel in channels):
        notes.append(f"channels with a single value: {constant}; samples keep it")
    (low, high), (least, most) = (zip(*pairs, strict=True) for pairs in (scales, ends))
    return Range(low, high, tuple(map(_level_count, channels)), least, most, tuple(notes))


def _combined(channels: list[_Channel]) -> _Channel:
    """The statistics of all channels together."""
    least, most = min(channel.least for channel in channels), max(channel.most for channel in channels)
    means = np.array([channel.least - least + channel.mean for channel in channels], dtype=np.float64)
    std = math.sqrt(np.mean(np.square([channel.std for channel in channels])) + means.var())
    step = None
    if all(channel.step is not None for channel in channels):
        step = math.gcd(*(channel.step or 0 for channel in channels),
                        *(int(channel.least - least) for channel in channels))
    return _Channel(least, most, float(means.mean()), std, step)


def _scale_of(channel: _Channel) -> tuple[float, float]:
    """The values that map to -1 and 1; the only value of a constant channel maps to 0."""
    if channel.width == 0:
        low, high = sorted((0 * channel.least, 2 * channel.least))
        return (low, high) if high > low else (-1, 1)
    width, mean, reach = channel.width, channel.least + channel.mean, MAX_DEVIATIONS * channel.std
    if channel.step is None:
        return (channel.least, channel.most) if 2 * reach >= width else (mean - reach, mean + reach)
    # Scale levels only if needed: likelihoods are probabilities only if -1..1 spans all of them.
    if 4 * max(reach, MIN_STEPS * channel.step) >= width:
        return channel.least, channel.most
    half = max(MIN_STEPS, round(reach / channel.step))
    low = channel.least + channel.step * (round(channel.mean / channel.step) - half)
    return low, low + 2 * half * channel.step


def _level_count(channel: _Channel) -> int | None:
    """The number of levels; the only value of a constant channel is the middle of three."""
    if channel.width == 0:
        return 3
    count = int(channel.width // channel.step) + 1 if channel.step else 2**64
    return count if count <= 2**53 else None


def _customary_range(dtype: np.dtype, combined: _Channel) -> tuple[float, float] | None:
    """The range in which pictures of these values are usually drawn, if the values fill enough of it."""
    if dtype == np.uint8:
        width = combined.width
        return (0, 255) if width == 0 or (combined.step == 1 and width >= MIN_FILL * 256) else None
    if dtype.kind != "f":
        return None
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        if low <= combined.least and combined.most <= high and combined.width >= MIN_FILL * (high - low):
            return low, high
    return None
