"""Traces and vectors: read as numbers, stretches of them marked as unknown, and draws of them as bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ornstein.data import DataSpec
from ornstein.figures.edits import LEVELS, figures_of
from ornstein.inputs import read_samples
from ornstein.studio.library import Model
from ornstein.studio.refusal import Refused
from ornstein.studio.uploads import read_as

__all__ = ["bands", "known", "row", "values"]


def values(model: Model, path: Path, number: int) -> dict[str, Any]:
    """A sample of a file as a list for each channel, null where it is unknown."""
    spec = model.spec
    if not _plain(spec):
        raise Refused(422, f"samples of shape {spec.shape} are no traces or vectors; choose another model", "model")
    found = read_as("id", path, lambda path: read_samples(spec, path, "cut").values, "the file")
    one = row(found, number)[0].reshape(_sides(spec))
    return {"model": model.name, "row": number, "rows": len(found), "shape": list(spec.shape),
            "values": [[None if np.isnan(value) else value for value in channel] for channel in one.tolist()]}


def row(found: np.ndarray, number: int) -> np.ndarray:
    """One of the samples of a file, (1, *shape)."""
    if number >= len(found):
        raise Refused(422, f"row is {number}; the file has rows 0 to {len(found) - 1}", "row", len(found) - 1)
    return found[number:number + 1]


def known(spec: DataSpec, stretches: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(1, *shape) False within the stretches."""
    if not _plain(spec):
        raise Refused(422, f"unknown is for traces and vectors, and the samples have shape {spec.shape}; give a mask"
                      if spec.kind == "picture" else f"unknown is for traces and vectors, and the samples have shape "
                      f"{spec.shape}; write NaN where they are unknown", "unknown")
    channels, places = _sides(spec)
    found = np.ones((channels, places), dtype=bool)
    for one in stretches:
        if not one["first"] <= one["last"] < places:
            raise Refused(422, f"unknown is from {one['first']} to {one['last']}; it must be from 0 to {places - 1} at "
                          "most, the first not above the last", "unknown", places - 1)
        if one["channel"] is not None and one["channel"] >= channels:
            raise Refused(422, f"unknown is in channel {one['channel']}; there are 0 to {channels - 1}", "unknown",
                          channels - 1)
        here = slice(None) if one["channel"] is None else one["channel"]
        found[here, one["first"]:one["last"] + 1] = False
    return found.reshape(1, *spec.shape)


def bands(spec: DataSpec, x: Tensor) -> dict[str, Any]:
    """Mean and quantiles of draws (count, *shape), a list for each channel, in the data's own units."""
    figures = figures_of(spec.decode(x)[None])
    channels = _sides(spec)
    return {"levels": list(LEVELS), "mean": figures["mean"][0].reshape(channels).tolist(),
            "quantiles": figures["quantiles"][:, 0].reshape(-1, *channels).tolist()}


def _plain(spec: DataSpec) -> bool:
    return spec.kind != "picture" and len(spec.shape) < 3


def _sides(spec: DataSpec) -> tuple[int, int]:
    """Channels and places of a trace; a vector is one of one channel."""
    return (1, spec.shape[0]) if len(spec.shape) == 1 else (spec.shape[0], spec.shape[1])
