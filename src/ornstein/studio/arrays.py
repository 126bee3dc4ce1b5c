"""Traces and vectors: their values as lists, masks of unknown stretches, and bands over several draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ornstein.data import DataSpec
from ornstein.figures.edits import LEVELS, summarise
from ornstein.inputs import read_samples
from ornstein.studio.errors import Refused
from ornstein.studio.library import Model
from ornstein.studio.uploads import read_upload

__all__ = ["bands", "known_mask", "read_values", "single_row"]


def read_values(model: Model, path: Path, row: int) -> dict[str, Any]:
    """One sample of a file as a list for each channel, null where it is unknown."""
    spec = model.spec
    if not _is_trace(spec):
        raise Refused(422, f"samples of shape {spec.shape} are not traces or vectors; choose another model", "model")
    samples = read_upload("id", path, lambda path: read_samples(spec, path, "cut").values, "the file")
    sample = single_row(samples, row)[0].reshape(_channels_and_length(spec))
    return {"model": model.name, "row": row, "rows": len(samples), "shape": list(spec.shape),
            "values": [[None if np.isnan(value) else value for value in channel] for channel in sample.tolist()]}


def single_row(samples: np.ndarray, row: int) -> np.ndarray:
    """One of the samples, (1, *shape)."""
    if row >= len(samples):
        raise Refused(422, f"row is {row}; the file has rows 0 to {len(samples) - 1}", "row", len(samples) - 1)
    return samples[row:row + 1]


def known_mask(spec: DataSpec, stretches: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """A mask (1, *shape) that is False within the unknown stretches."""
    if not _is_trace(spec):
        raise Refused(422, f"unknown is for traces and vectors, and the samples have shape {spec.shape}; " + (
            "give a mask" if spec.kind == "picture" else "write NaN where they are unknown"), "unknown")
    channels, length = _channels_and_length(spec)
    known = np.ones((channels, length), dtype=bool)
    for stretch in stretches:
        first, last, channel = stretch["first"], stretch["last"], stretch["channel"]
        if not first <= last < length:
            raise Refused(422, f"unknown is from {first} to {last}; it must be from 0 to {length - 1} at most, and the "
                          "first must not exceed the last", "unknown", length - 1)
        if channel is not None and channel >= channels:
            raise Refused(422, f"unknown is in channel {channel}; it must be from 0 to {channels - 1}", "unknown",
                          channels - 1)
        known[slice(None) if channel is None else channel, first:last + 1] = False
    return known.reshape(1, *spec.shape)


def bands(spec: DataSpec, x: Tensor) -> dict[str, Any]:
    """Mean and quantiles of draws (count, *shape) in the data's own units, as a list for each channel."""
    figures = summarise(spec.decode(x)[None])
    shape = _channels_and_length(spec)
    return {"levels": list(LEVELS), "mean": figures["mean"][0].reshape(shape).tolist(),
            "quantiles": figures["quantiles"][:, 0].reshape(-1, *shape).tolist()}


def _is_trace(spec: DataSpec) -> bool:
    return spec.kind != "picture" and len(spec.shape) < 3


def _channels_and_length(spec: DataSpec) -> tuple[int, int]:
    """A vector has one channel."""
    return (1, spec.shape[0]) if len(spec.shape) == 1 else (spec.shape[0], spec.shape[1])
