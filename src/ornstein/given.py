"""Samples of the user's own to be edited, from files: what is known of them, and what is drawn from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein import files
from ornstein.arguments import printable
from ornstein.data import DataSpec, read_picture
from ornstein.data.labels import listed, number_labels
from ornstein.data.parquet import read_parquet
from ornstein.data.pictures import FORMATS, header
from ornstein.data.spec import channel_first
from ornstein.data.table import Table, label_of, read_csv
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.editing.inpaint import inpaint
from ornstein.diffusion.editing.interpolate import interpolate
from ornstein.diffusion.editing.invert import invert
from ornstein.diffusion.editing.operator import Operator
from ornstein.diffusion.editing.restore import restore
from ornstein.diffusion.editing.vary import vary
from ornstein.figures.edits import named_bands
from ornstein.training.run import Run

__all__ = ["TABLES", "Given", "apply_mask", "edited", "fit_of", "read_given", "read_mask", "read_measured"]

TABLES = (".csv", ".tsv", ".parquet")
ROUNDED = 0.01  # deviation of a measurement's noise that nobody named, in parts of the data's range
OPAQUE = 128  # opacity from which a pixel is known, and brightness from which one of a mask is to be painted
SHADES = 0.1  # share of a mask's pixels that may be neither black nor white, as edges are


@dataclass
class Given:
    """Samples in the data's own values, (N, *shape) float64 with NaN where they are unknown, and notes on them."""

    values: np.ndarray
    notes: list[str]
    size: tuple[int, int] = (0, 0)  # width and height of a picture's file
    table: Table = field(default_factory=Table)  # the file's columns, if it has any
    names: tuple[str, ...] = ()  # of those that are the samples
    told: Tensor | None = None  # what the column of labels says of each row


def fit_of(run: Path) -> str:
    """How pictures of another shape became training pictures of a run; "cut" where nothing says so."""
    settings = Run(run).settings() if run.is_dir() else None
    return settings.fit if settings is not None else "cut"


def read_given(spec: DataSpec, path: Path, fit: str) -> Given:
    """Samples from a picture file, whose transparent part is unknown unless the model draws it, or from numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that cannot be read, or numbers that are no samples of such data.
    """
    if is_picture(path):
        given = _picture(spec, spec.shape, path, fit)
        if spec.mode != "RGBA" and header(path)[3]:
            clear = read_picture(path, (4, *spec.shape[1:]), fit)[3] < OPAQUE
            given.values[:, :, clear] = np.nan
        return given
    if path.suffix.lower() in TABLES:
        return _tabled(spec, path)
    return Given(_samples(spec, path, _load(path)), [])


def read_measured(spec: DataSpec, into: tuple[int, ...], path: Path, fit: str) -> Given:
    """Measurements (N, *into), from a picture file if they can be one, or from numbers."""
    if is_picture(path):
        shape = into if len(into) == 3 else (1, *into)
        if len(shape) != 3 or shape[0] not in (1, 3, 4):
            raise ValueError(f"{path} is a picture, and a measurement has shape {into}; save it with numpy.save")
        given = _picture(spec, shape, path, fit)
        if shape[1:] not in (spec.shape[1:], given.size[::-1]):  # what is resized was not measured so
            raise ValueError(f"{path} is {given.size[0]} x {given.size[1]} pixels; such a measurement of samples of "
                             f"shape {spec.shape} is {shape[2]} x {shape[1]}, and cannot be resized")
        given.values = given.values.reshape(1, *into)
        return given
    turned = len(into) == len(spec.shape)
    own = np.moveaxis(np.empty(into), 0, -1).shape if turned and spec.layout.endswith("C") else into
    values = _rows(path, _load(path), own, "measurements")
    return Given(channel_first(values, spec.layout) if turned and spec.layout.endswith("C") else values, [])


def read_mask(spec: DataSpec, path: Path, given: Given, fit: str) -> np.ndarray:
    """Which values are known, bool that broadcasts against (N, *shape): of a picture what is black, of a .npy file what
    is true.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a mask of another size, or one that is neither black and white nor true and false.
    """
    if is_picture(path):
        if spec.kind != "picture":
            raise ValueError(f"{path} is a picture, and samples have shape {spec.shape}; give a .npy file that is true "
                             "where values are known")
        height, width = spec.shape[1:]
        shade = read_picture(path, (1, height, width), fit)
        size = header(path)[:2]
        if size not in ((width, height), given.size):
            other = f", or {given.size[0]} x {given.size[1]} as the picture is" * (
                given.size not in ((0, 0), (width, height)))
            raise ValueError(f"{path} is {size[0]} x {size[1]} pixels; a mask must be {width} x {height}{other}")
        if (between := float(((shade > OPAQUE // 4) & (shade < 255 - OPAQUE // 4)).mean())) > SHADES:
            raise ValueError(f"{path} is no mask: {100 * between:.0f} % of its pixels are neither black nor white; "
                             "paint white what is to be painted anew, and all else black")
        return (shade < OPAQUE)[None]
    mask = _load(path)
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{path} holds {mask.dtype} that are no mask; it must hold true and false, or 1 and 0, true "
                         "where values are known")
    own = spec.arrange(np.empty((1, *spec.shape))).shape[1:]
    known = mask.astype(bool)
    if known.shape == own:
        return channel_first(known[None], spec.layout)
    if known.shape == (len(given.values), *own):
        return channel_first(known, spec.layout)
    if len(spec.shape) > 1 and known.shape == spec.shape[1:]:
        return known[None, None]
    raise ValueError(f"{path} has shape {known.shape}; a mask must have that of a sample, {own}, or of all, "
                     f"{(len(given.values), *own)}")


def apply_mask(spec: DataSpec, path: Path, given: Given, fit: str, of: str) -> None:
    """Make unknown what a mask says of samples, which messages call `of`; raises as `read_mask`, and for numbers that
    are NaN where they are said to be known.
    """
    known = read_mask(spec, path, given, fit)
    if lost := int((np.isnan(given.values) & known).sum()):
        if given.size == (0, 0):
            raise ValueError(f"{of} holds {lost} values that are unknown where {path} says that they are known; make "
                             "the mask false there, or write the numbers")
        given.notes.append(f"the transparent part of {of} is unknown too")
    given.values = np.where(known, given.values, np.nan)


def edited(model: NetworkDenoiser, spec: DataSpec, action: str, given: Sequence[Given], count: int, seed: int,
           words: Mapping[str, Any], measured: Operator | None = None, noise: float | None = None,
           strength: float = 0.5) -> Tensor:
    """What an action of `ornstein edit` makes of samples: (N * count, *shape), those of one sample adjacent."""
    like = model.data_std
    if action == "restore":
        if measured is None:
            raise ValueError("operator is missing: what was measured, such as blur=1.5, down=4 or mean")
        return _restored(model, spec, given[0], measured, noise, {"count": count, "seed": seed, **words})
    x = [spec.encode(one.values).to(like.device) for one in given]
    for one in x:
        _refuse_far(spec, one)
    if action == "invert":
        return invert(model, x[0], **words)
    if action == "interpolate":
        return interpolate(model, x[0], x[1], count, **words)
    words = {"count": count, "seed": seed, **words}
    return inpaint(model, x[0], **words) if action == "fill" else vary(model, x[0], strength, **words)


def _restored(model: NetworkDenoiser, spec: DataSpec, given: Given, measured: Operator, noise: float | None,
              words: Mapping[str, Any]) -> Tensor:
    """Samples of measurements in the data's own values: A v = A (h x) + A m, with h and m half and middle of the range.
    """
    like = model.data_std
    exact = spec.unrounded()
    low, middle = (torch.from_numpy(exact.decode(like.new_full(model.shape, end))).to(like) for end in (-1.0, 0.0))
    half = middle - low
    own = Operator(measured.shape, measured.into, lambda x: measured(half.to(x) * x),
                   lambda y: half.to(y) * measured.adjoint(y))
    y = torch.from_numpy(given.values).to(like) - measured(middle[None])
    _refuse_far(spec, y)
    return restore(model, y, own, ROUNDED * 2 * float(half.mean()) if noise is None else noise, **words)


def is_picture(path: Path) -> bool:
    """Whether a path is to be read as a picture, by its name."""
    return path.suffix.lower() in FORMATS


def _picture(spec: DataSpec, shape: tuple[int, ...], path: Path, fit: str) -> Given:
    """A picture in the data's own values, which it is drawn in."""
    if spec.kind != "picture":
        raise ValueError(f"{path} is a picture, and this model was trained on arrays of shape {spec.shape}; save "
                         "samples with numpy.save, in the layout of the data")
    least, most = (float(end.min()) for end in spec.extent)
    deep = spec.mode == "I;16"
    values = read_picture(path, shape, fit, 16 if deep else 8)[None].astype(np.float64)
    # Sixteen bits are the data's own, eight are what they are drawn in.
    values = values.clip(least, most) if deep else least + values / 255 * (most - least)
    width, height = header(path)[:2]
    notes = [] if (height, width) == shape[1:] else [
        f"{path} is {width} x {height} pixels: resized to {shape[2]} x {shape[1]} as training pictures were"
        + {"cut": ", cut to its middle", "pad": ", padded", "stretch": ", stretched"}[fit]
        * (width * shape[1] != height * shape[2])]
    return Given(values, notes, (width, height))


def _refuse_far(spec: DataSpec, x: Tensor) -> None:
    if x.isinf().any():
        least, most = (float(end) for end in (spec.extent[0].min(), spec.extent[1].max()))
        raise ValueError("the input holds values too far from those of the data, which reach from "
                         f"{least:g} to {most:g}; give it in the data's own units")


def _tabled(spec: DataSpec, path: Path) -> Given:
    """Rows of a table by the names of their columns; empty cells are unknown."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a picture, a table, or a .npy or .npz file")
    where = str(path)
    table, notes = (read_parquet(path, where), []) if path.suffix.lower() == ".parquet" else read_csv(path, where)
    label = label_of(table)
    lists = [name for name, column in table.items() if column.ndim > 1]
    names = lists or list(spec.columns) or [name for name in table if name != label]
    if lost := [name for name in names if name not in table]:
        raise ValueError(f"{path} lacks columns that this model was trained on: {listed(lost)}; add them, with empty "
                         "cells where they are unknown")
    if words := [name for name in names if table[name].dtype.kind == "O"]:
        raise ValueError(f"{path} holds text in the columns {listed(words)}; write numbers, or nothing where they are "
                         "unknown")
    if taken := [band for name in names for band in named_bands(name) if band in table]:
        raise ValueError(f"{path} has a column {taken[0]!r}, as the answer calls what it adds; rename that column")
    values = table[names[0]] if lists else np.stack([table[name] for name in names], 1)
    if left := [name for name in table if name not in (*names, label)]:
        notes.append(f"not read, and left as they are: {listed(left)}")
    told = None if label is None else _told(spec, table[label], label, where)
    if label is not None and told is not None:
        notes.append(f"column {label!r} says what each row is")
    return Given(_samples(spec, path, values), notes, table=table, names=tuple(names), told=told)


def _told(spec: DataSpec, column: np.ndarray, label: str, where: str) -> Tensor | None:
    """Classes (N,) or numbers (N, 1) to condition on, from a column of labels; None for a model without."""
    if spec.conditions == (label,) and column.dtype.kind in "biuf":
        return torch.from_numpy(column[:, None].astype(np.float64))
    if not spec.classes:
        return None
    texts = np.array([None if one is None or one != one else str(int(one)) if isinstance(one, float) and one == int(one)
                      else str(one) for one in column.tolist()], dtype=object)
    return torch.from_numpy(number_labels(texts, spec.classes, where)[0])


def _samples(spec: DataSpec, path: Path, values: np.ndarray) -> np.ndarray:
    """Samples in the user's layout as (N, *shape)."""
    own = spec.arrange(np.empty((1, *spec.shape))).shape[1:]
    return channel_first(_rows(path, values, own, f"samples of {spec.name!r}"), spec.layout)


def _rows(path: Path, values: np.ndarray, own: tuple[int, ...], what: str) -> np.ndarray:
    """Numbers (N, *own) of a file that holds one or several, float64."""
    if values.dtype.kind not in "biuf" or own not in (values.shape, values.shape[1:]):
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}; {what} are numbers of shape {own}, or "
                         f"(N, {', '.join(map(str, own))}) of several")
    if 0 in values.shape:
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}, in which nothing is; give at "
                         "least one sample")
    if lost := int(np.isinf(values).sum()):
        raise ValueError(f"{path} holds {lost} infinite values; write NaN for what is unknown")
    return np.array(values.reshape(-1, *own), dtype=np.float64)


def _load(path: Path) -> np.ndarray:
    """The array in a .npy file, or x, or the only one, of a .npz file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a picture, or a .npy or .npz file")
    try:
        with files.open_regular(path) as file:
            found: Any = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            names = [name for name in found.files if name == "x"] or found.files
            if len(names) == 1:
                return found[names[0]]
    except Exception as error:  # a broken file raises a dozen types, all of which mean the same to the user
        raise ValueError(f"{path} cannot be used: {printable(str(error))}; name a picture, or a .npy or .npz file of "
                         "numbers") from None
    raise ValueError(f"{path} holds {', '.join(names) or 'nothing'}; it must hold one array of samples, or name it x")
