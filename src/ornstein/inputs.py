"""Inputs of an edit, read from files: samples, measurements and masks; and the edit itself."""

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
from ornstein.data.labels import join_names, number_labels
from ornstein.data.parquet import read_parquet
from ornstein.data.pictures import FORMATS, read_header
from ornstein.data.spec import channel_first
from ornstein.data.table import Table, label_column, read_csv
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.editing.inpaint import inpaint
from ornstein.diffusion.editing.interpolate import interpolate
from ornstein.diffusion.editing.invert import invert
from ornstein.diffusion.editing.operator import Operator
from ornstein.diffusion.editing.restore import restore
from ornstein.diffusion.editing.vary import vary
from ornstein.figures.edits import band_names
from ornstein.training.run import Run

__all__ = ["TABLES", "EditInput", "apply_mask", "read_measurements", "read_samples", "run_edit", "training_fit"]

TABLES = (".csv", ".tsv", ".parquet")
DEFAULT_NOISE = 0.01  # standard deviation of a measurement's noise, as a share of the data's range
OPAQUE = 128  # opacity from which a pixel is known, and brightness from which a pixel of a mask is to be painted
MAX_GREY = 0.1  # share of a mask's pixels that may be neither black nor white, as those on edges are


@dataclass
class EditInput:
    """Samples in the data's own values, (N, *shape) float64 with NaN where they are unknown, and notes on them."""

    values: np.ndarray
    notes: list[str]
    size: tuple[int, int] = (0, 0)  # width and height of the file, if it is a picture
    table: Table = field(default_factory=Table)  # all columns of the file, if it is a table
    columns: tuple[str, ...] = ()  # names of those that hold the samples
    condition: Tensor | None = None  # from the table's label column, one entry a row


def training_fit(run: Path) -> str:
    """How a run fitted pictures of another shape to its size; "cut" if it does not say."""
    settings = Run(run).settings() if run.is_dir() else None
    return settings.fit if settings is not None else "cut"


def read_samples(spec: DataSpec, path: Path, fit: str) -> EditInput:
    """Read samples from a picture, an array or a table.

    Transparent pixels are unknown, unless the model draws transparency.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read, or does not hold samples of such data.
    """
    if is_picture(path):
        edit_input = _read_picture(spec, spec.shape, path, fit)
        if spec.mode != "RGBA" and read_header(path).transparent:
            is_clear = read_picture(path, (4, *spec.shape[1:]), fit)[3] < OPAQUE
            edit_input.values[:, :, is_clear] = np.nan
        return edit_input
    if path.suffix.lower() in TABLES:
        return _read_table(spec, path)
    return EditInput(_as_samples(spec, path, _load_array(path)), [])


def read_measurements(spec: DataSpec, shape: tuple[int, ...], path: Path, fit: str) -> EditInput:
    """Read measurements (N, *shape) from an array, or from a picture where the shape is one of a picture."""
    if is_picture(path):
        picture_shape = shape if len(shape) == 3 else (1, *shape)
        if len(picture_shape) != 3 or picture_shape[0] not in (1, 3, 4):
            raise ValueError(f"{path} is a picture, and a measurement has shape {shape}; save it with numpy.save")
        edit_input = _read_picture(spec, picture_shape, path, fit)
        if picture_shape[1:] not in (spec.shape[1:], edit_input.size[::-1]):  # a resized picture was not measured
            raise ValueError(f"{path} is {edit_input.size[0]} x {edit_input.size[1]} pixels; such a measurement of "
                             f"samples of shape {spec.shape} is {picture_shape[2]} x {picture_shape[1]}, and cannot be "
                             "resized")
        edit_input.values = edit_input.values.reshape(1, *shape)
        return edit_input
    is_channel_last = len(shape) == len(spec.shape) and spec.layout.endswith("C")
    file_shape = (*shape[1:], shape[0]) if is_channel_last else shape
    values = _as_rows(path, _load_array(path), file_shape, "measurements")
    return EditInput(channel_first(values, spec.layout) if is_channel_last else values, [])


def _read_mask(spec: DataSpec, path: Path, edit_input: EditInput, fit: str) -> np.ndarray:
    """Read which values are known, as booleans that broadcast against (N, *shape).

    Black pixels of a picture are known, and true entries of a .npy file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a mask of another size, or one that is neither black and white nor true and false.
    """
    if is_picture(path):
        if spec.kind != "picture":
            raise ValueError(f"{path} is a picture, and samples have shape {spec.shape}; give a .npy file that is true "
                             "where values are known")
        height, width = spec.shape[1:]
        brightness = read_picture(path, (1, height, width), fit)
        size = read_header(path)[:2]
        if size not in ((width, height), edit_input.size):
            other = f", or {edit_input.size[0]} x {edit_input.size[1]} as the picture is" * (
                edit_input.size not in ((0, 0), (width, height)))
            raise ValueError(f"{path} is {size[0]} x {size[1]} pixels; a mask must be {width} x {height}{other}")
        grey = float(((brightness > OPAQUE // 4) & (brightness < 255 - OPAQUE // 4)).mean())
        if grey > MAX_GREY:
            raise ValueError(f"{path} is not a mask: {100 * grey:.0f} % of its pixels are neither black nor white; "
                             "paint what is to be drawn anew white, and everything else black")
        return (brightness < OPAQUE)[None]
    mask = _load_array(path)
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{path} holds {mask.dtype} values that are not a mask; it must hold true and false, or 1 and "
                         "0, true where values are known")
    sample_shape = _layout_shape(spec)
    known = mask.astype(bool)
    if known.shape == sample_shape:
        return channel_first(known[None], spec.layout)
    if known.shape == (len(edit_input.values), *sample_shape):
        return channel_first(known, spec.layout)
    if len(spec.shape) > 1 and known.shape == spec.shape[1:]:
        return known[None, None]
    raise ValueError(f"{path} has shape {known.shape}; a mask must have that of a sample, {sample_shape}, or of all "
                     f"samples, {(len(edit_input.values), *sample_shape)}")


def apply_mask(spec: DataSpec, path: Path, edit_input: EditInput, fit: str, name: str) -> None:
    """Mark the samples as unknown where a mask says so; messages call the samples `name`.

    Raises:
        FileNotFoundError: the mask does not exist.
        ValueError: not a mask of these samples, or numbers that are NaN where it says that they are known.
    """
    known = _read_mask(spec, path, edit_input, fit)
    if missing := int((np.isnan(edit_input.values) & known).sum()):
        if edit_input.size == (0, 0):
            raise ValueError(f"{name} holds {missing} values that are unknown where {path} says that they are known; "
                             "make the mask false there, or write the numbers")
        edit_input.notes.append(f"the transparent part of {name} is unknown too")
    edit_input.values = np.where(known, edit_input.values, np.nan)


def run_edit(model: NetworkDenoiser, spec: DataSpec, action: str, inputs: Sequence[EditInput], count: int, seed: int,
             options: Mapping[str, Any], operator: Operator | None = None, noise: float | None = None,
             strength: float = 0.5) -> Tensor:
    """Run an action of `ornstein edit`: samples (N * count, *shape), those of one input sample adjacent."""
    reference = model.data_std
    if action == "restore":
        if operator is None:
            raise ValueError("operator is missing: what was measured, such as blur=1.5, down=4 or mean")
        return _restore(model, spec, inputs[0], operator, noise, {"count": count, "seed": seed, **options})
    x = [spec.encode(edit_input.values).to(reference.device) for edit_input in inputs]
    for samples in x:
        _refuse_infinite(spec, samples)
    if action == "invert":
        return invert(model, x[0], **options)
    if action == "interpolate":
        return interpolate(model, x[0], x[1], count, **options)
    options = {"count": count, "seed": seed, **options}
    return inpaint(model, x[0], **options) if action == "fill" else vary(model, x[0], strength, **options)


def _restore(model: NetworkDenoiser, spec: DataSpec, edit_input: EditInput, operator: Operator, noise: float | None,
             options: Mapping[str, Any]) -> Tensor:
    """Restore from measurements in the data's own values v = h x + m, with h and m half and middle of their range:
    y = A v is A (h x) + A m.
    """
    reference = model.data_std
    exact = spec.unrounded()
    low, middle = (torch.from_numpy(exact.decode(reference.new_full(model.shape, value))).to(reference)
                   for value in (-1.0, 0.0))
    half = middle - low
    scaled = Operator(operator.shape, operator.into, lambda x: operator(half.to(x) * x),
                      lambda y: half.to(y) * operator.adjoint(y))
    y = torch.from_numpy(edit_input.values).to(reference) - operator(middle[None])
    _refuse_infinite(spec, y)
    return restore(model, y, scaled, DEFAULT_NOISE * 2 * float(half.mean()) if noise is None else noise, **options)


def is_picture(path: Path) -> bool:
    """Whether the name of a file is that of a picture."""
    return path.suffix.lower() in FORMATS


def _read_picture(spec: DataSpec, shape: tuple[int, ...], path: Path, fit: str) -> EditInput:
    """Read a picture, its brightness mapped to the range of the data."""
    if spec.kind != "picture":
        raise ValueError(f"{path} is a picture, and this model was trained on arrays of shape {spec.shape}; save "
                         "samples with numpy.save, in the layout of the data")
    low, high = (float(bound.min()) for bound in spec.extent)
    is_deep = spec.mode == "I;16"
    values = read_picture(path, shape, fit, 16 if is_deep else 8)[None].astype(np.float64)
    # Sixteen bits are the data's own values; eight are scaled to their range.
    values = values.clip(low, high) if is_deep else low + values / 255 * (high - low)
    width, height = read_header(path)[:2]
    notes = [] if (height, width) == shape[1:] else [
        f"{path} is {width} x {height} pixels: resized to {shape[2]} x {shape[1]} as training pictures were"
        + {"cut": ", cut to its middle", "pad": ", padded", "stretch": ", stretched"}[fit]
        * (width * shape[1] != height * shape[2])]
    return EditInput(values, notes, (width, height))


def _refuse_infinite(spec: DataSpec, x: Tensor) -> None:
    if x.isinf().any():
        low, high = (float(bound) for bound in (spec.extent[0].min(), spec.extent[1].max()))
        raise ValueError("the input holds values too far from those of the data, which reach from "
                         f"{low:g} to {high:g}; give it in the data's own units")


def _read_table(spec: DataSpec, path: Path) -> EditInput:
    """Read rows of a table, finding columns by their names; empty cells are unknown."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a picture, a table, or a .npy or .npz file")
    source = str(path)
    table, notes = (read_parquet(path, source), []) if path.suffix.lower() == ".parquet" else read_csv(path, source)
    label = label_column(table)
    array_columns = [name for name, column in table.items() if column.ndim > 1]
    columns = array_columns or list(spec.columns) or [name for name in table if name != label]
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"{path} lacks columns that this model was trained on: {join_names(missing)}; add them, with "
                         "empty cells where they are unknown")
    if texts := [name for name in columns if table[name].dtype.kind == "O"]:
        raise ValueError(f"{path} holds text in the columns {join_names(texts)}; write numbers, or nothing where they "
                         "are unknown")
    if taken := [band for name in columns for band in band_names(name) if band in table]:
        raise ValueError(f"{path} has a column {taken[0]!r}, a name that the result uses; rename that column")
    values = table[columns[0]] if array_columns else np.stack([table[name] for name in columns], 1)
    if ignored := [name for name in table if name not in (*columns, label)]:
        notes.append(f"columns that are ignored and kept as they are: {join_names(ignored)}")
    condition = None if label is None else _label_condition(spec, table[label], label, source)
    if condition is not None:
        notes.append(f"column {label!r} gives the label of each row")
    return EditInput(_as_samples(spec, path, values), notes, table=table, columns=tuple(columns), condition=condition)


def _label_condition(spec: DataSpec, column: np.ndarray, label: str, source: str) -> Tensor | None:
    """Classes (N,) or numbers (N, 1) from a label column; None for an unconditional model."""
    if spec.conditions == (label,) and column.dtype.kind in "biuf":
        return torch.from_numpy(column[:, None].astype(np.float64))
    if not spec.classes:
        return None
    texts = np.array([None if value is None or value != value
                      else str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
                      for value in column.tolist()], dtype=object)
    return torch.from_numpy(number_labels(texts, spec.classes, source)[0])


def _layout_shape(spec: DataSpec) -> tuple[int, ...]:
    """The shape of one sample in the user's layout."""
    return spec.arrange(np.empty((1, *spec.shape))).shape[1:]


def _as_samples(spec: DataSpec, path: Path, values: np.ndarray) -> np.ndarray:
    """Samples in the user's layout as (N, *shape)."""
    return channel_first(_as_rows(path, values, _layout_shape(spec), f"samples of {spec.name!r}"), spec.layout)


def _as_rows(path: Path, values: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """One or several arrays of a shape as (N, *shape) float64."""
    if values.dtype.kind not in "biuf" or shape not in (values.shape, values.shape[1:]):
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}; {name} are numbers of shape {shape}, "
                         f"or (N, {', '.join(map(str, shape))}) for several")
    if 0 in values.shape:
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}, which is empty; give at least one "
                         "sample")
    if infinite := int(np.isinf(values).sum()):
        raise ValueError(f"{path} holds {infinite} infinite values; write NaN for what is unknown")
    return np.array(values.reshape(-1, *shape), dtype=np.float64)


def _load_array(path: Path) -> np.ndarray:
    """Load the array of a .npy file, or the one named x, or the only one, of a .npz file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a picture, or a .npy or .npz file")
    try:
        with files.open_regular(path) as file:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            names = [name for name in loaded.files if name == "x"] or loaded.files
            if len(names) == 1:
                return loaded[names[0]]
    except Exception as error:  # a broken file raises a dozen types, all of which mean the same to the user
        raise ValueError(f"{path} cannot be used: {printable(str(error))}; name a picture, or a .npy or .npz file of "
                         "numbers") from None
    raise ValueError(f"{path} holds {', '.join(names) or 'no arrays'}; it must hold one array of samples, or name it "
                     "x")
