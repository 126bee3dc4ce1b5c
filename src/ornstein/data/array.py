"""Arrays in memory and in .npy and .npz files, read without pickle; large .npy files are read on demand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.arguments import require
from ornstein.data import cache
from ornstein.data.dataset import Dataset, check_conditions, digest_values, hold_out
from ornstein.data.labels import is_one_hot, number_labels
from ornstein.data.ranges import choose_range, measure_channels
from ornstein.data.spec import LAYOUTS, DataSpec, channel_first, printable
from ornstein.data.stored import StoredRows
from ornstein.files import open_regular

__all__ = ["load_array", "load_array_file", "load_labelled", "read_layout"]

CHANNELS = (1, 3, 4)
MIN_PICTURE_SIDE, MAX_PICTURE_PROPORTION = 8, 4  # limits for arrays read as grey pictures
ANNOTATIONS = ("labels", "y", "classes", "conditions", "condition", "names", "columns", "ornstein")


def load_array_file(path: Path, layout: str = "auto") -> Dataset:
    """Return the set in a .npy or .npz file.

    A .npz file holds one array of samples under any name (x, images, data, arr_0 ...). It may hold labels or y, (N,)
    whole numbers or text, with classes, their names by index; or conditions, (N,) or (N, K) numbers, with names, one
    per column; and columns, the names of the entries of vectors.
    """
    where = printable(str(path))
    if not os.path.exists(path):
        raise FileNotFoundError(f"{where}: no such file")
    if not os.path.isfile(path):
        raise ValueError(f"{where}: is not a regular file; give a .npy or .npz file")
    members = _read_members(path, where)
    labels = [members[name] for name in ("labels", "y") if name in members]
    conditions = [members[name] for name in ("conditions", "condition") if name in members]
    samples = [array for name, array in members.items() if name not in ANNOTATIONS]
    if len(samples) != 1 or len(labels) + len(conditions) > 1:
        raise ValueError(f"{where}: holds {printable(', '.join(members)) or 'nothing'}; it must hold one array of "
                         "samples (x, images, data or arr_0), and may hold labels (or y) and classes, or conditions "
                         "and names, but not both")
    for annotation, target, present in (("names", "conditions", conditions), ("classes", "labels", labels)):
        if annotation in members and not present:
            raise ValueError(f"{where}: has {annotation} but no {target}; save {target} beside them, one per sample")
    data = load_array(samples[0], *labels, classes=members.get("names" if conditions else "classes"),
                      conditions=conditions[0] if conditions else None, columns=members.get("columns"), layout=layout,
                      name=printable(path.stem), where=where)
    values = samples[0]
    if isinstance(values, np.ndarray) and values.flags.f_contiguous and values.nbytes >= cache.MIN_CACHED_BYTES:
        data.notes.append("the array is stored by columns (Fortran order): it was read into memory as a whole")
    return data


def _read_members(path: Path, where: str) -> dict[str, Any]:
    with open_regular(path) as file:
        magic = file.read(6)
        if not magic.startswith((b"\x93NUMPY", b"PK")):
            raise ValueError(f"{where}: is neither a .npy nor a .npz file; write it with numpy.save or numpy.savez")
        file.seek(0)
        # Broken headers and archives raise a dozen types of error, which all mean the same to the user.
        try:
            if magic.startswith(b"\x93NUMPY"):
                stored = StoredRows(path)
                is_large = stored.is_row_major and stored.nbytes >= cache.MIN_CACHED_BYTES
                return {"x": stored if is_large else np.load(file, allow_pickle=False)}
            with np.load(file, allow_pickle=False) as archive:
                members = {name: archive[name] for name in archive.files}
        except Exception as error:
            if "Python objects" in str(error) or "Object arrays" in str(error):
                raise ValueError(f"{where}: holds Python objects, which are never loaded; save plain "
                                 "numbers") from error
            reason = printable(str(error)) or type(error).__name__
            raise ValueError(f"{where}: is broken or truncated ({reason}); write it again") from error
    for name, member in members.items():
        if not isinstance(member, np.ndarray):  # numpy returns other members as bytes
            raise ValueError(f"{where}: member {name!r} is not an array; write the file with numpy.savez")
    return members


def load_array(values: np.ndarray | StoredRows, labels: np.ndarray | None = None, classes: np.ndarray | None = None, *,
               conditions: np.ndarray | None = None, columns: np.ndarray | None = None, layout: str = "auto",
               name: str = "array", where: str = "array", whole_columns: Sequence[bool] = ()) -> Dataset:
    """Return a set from an array of samples.

    `values` are (N, *axes of the layout), copied unless they are in a file; `labels` (N,) or (N, 1), or (N, K) numbers
    for vector conditions; `conditions` (N,) or (N, K), a row of NaN for none; `classes` (K,) name the labels or the
    conditions. `columns` (D,) name the entries of vectors; `whole_columns` marks the columns of floating-point values
    that hold whole numbers.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{where}: is a masked array; fill it or drop the masked rows first")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{where}: holds {values.dtype}; values must be bool, whole or floating numbers")
    if values.dtype.itemsize > 8:
        raise ValueError(f"{where}: holds {values.dtype}; save it as float64 or less")
    if not 2 <= values.ndim <= 5:
        raise ValueError(f"{where}: has shape {values.shape}; it must be (N, D), (N, H, W), (N, C, H, W), "
                         "(N, H, W, C) or another layout of 2 to 5 axes")
    if 0 in values.shape:
        raise ValueError(f"{where}: has shape {values.shape}; at least 1 sample of at least 1 value is needed")
    layout, notes = read_layout(values.shape, layout, where)
    key = None
    if isinstance(values, StoredRows):
        values = StoredRows(Path(values.path), layout)
        key = cache.make_key("survey", values.signature, layout)
    else:
        values = np.array(channel_first(values, layout), order="C")
    statistics = _statistics(values, where, key)
    for column in np.flatnonzero(whole_columns):
        offsets = np.abs(values[:, column] - values[0, column]).astype(np.int64)
        statistics["channels"]["step"][column] = int(np.gcd.reduce(offsets))
    is_picture = values.ndim == 4 and values.shape[1] in CHANNELS
    value_range = choose_range(values.dtype, statistics["channels"], is_picture)
    if labels is not None and labels.ndim == 2:
        labels, conditions = _split_two_axes(labels, where)
    indices, class_names, condition_names = np.full(len(values), -1, dtype=np.int64), (), ()
    if conditions is None:
        indices, class_names = _check_labels(labels, classes, len(values), where)
    else:
        conditions, condition_names = _check_conditions(conditions, classes, len(values), where)
        if is_one_hot(conditions):
            notes.append("the conditions are one-hot rows; pass argmax(1) as labels to have named classes instead")
    held, hold_out_notes = hold_out(len(values))
    # Channels with separate ranges are fields or measurements, not a picture.
    kind = "picture" if is_picture and not isinstance(value_range.low, tuple) else "array"
    if kind == "picture" and values.shape[1] == 4:
        notes.append("pictures of 4 channels: all four are learned and saved in a .npz, but only the first three are "
                     "drawn; if the fourth is transparency, save PNG files and train on those with --alpha")
    try:
        spec = DataSpec(name, kind, values.shape[1:], value_range.low, value_range.high, value_range.levels,
                        class_names, layout, condition_names, least=value_range.least, most=value_range.most,
                        columns=_check_names("columns", columns, values.shape[1] if layout == "V" else 0, where))
        notes += [*value_range.notes, *statistics.get("notes", []), *hold_out_notes]
        return Dataset(values, indices, held, spec, notes, conditions=conditions, values_digest=statistics["digest"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def load_labelled(values: np.ndarray, labels: tuple[np.ndarray, tuple[str, ...]] | None, notes: Iterable[str] = (),
                  **options: Any) -> Dataset:
    """Return the result of `load_array` for labels from `number_labels`, with `notes` first."""
    indices, names = labels or (None, ())
    data = load_array(values, *((indices, np.array(names, dtype=str)) if names else ()), **options)
    data.notes[:0] = notes
    return data


def read_layout(shape: tuple[int, ...], layout: str, where: str) -> tuple[str, list[str]]:
    """Return the layout of an (N, ...) array and notes on it.

    "auto" depends on the shape alone. With two axes after N: grey pictures if both sides are at least 8 and the longer
    is at most 4 times the shorter, else traces whose channels are the shorter axis. Three: channels last if the last
    axis is 1, 3 or 4 and the first after N is not. Four: channels last if the last is 1 to 4 and the first after N is
    more than 4.
    """
    axes, layouts = shape[1:], sorted(name for group in LAYOUTS.values() for name in group)
    if layout != "auto":
        require("layout", layout, ["auto", *layouts])
        if len(layout) != len(axes):
            allowed = " or ".join(name for name in layouts if len(name) == len(axes))
            raise ValueError(f"{where}: layout {layout!r} has {len(layout)} axes and a sample has {len(axes)}, "
                             f"{axes}; it must be {allowed}")
        return layout, []
    if len(axes) == 1:
        return "V", [f"read as vectors of {axes[0]} values; --layout L reads them as traces"] if axes[0] >= 32 else []
    if len(axes) == 2:
        if min(axes) >= MIN_PICTURE_SIDE and max(axes) <= MAX_PICTURE_PROPORTION * min(axes):
            return "HW", [f"read as grey pictures of {axes[0]}x{axes[1]}; --layout CL or LC reads them as traces"]
        chosen, other = ("LC", "CL") if axes[1] < axes[0] else ("CL", "LC")
        return chosen, [f"read as traces, {min(axes)} channels of {max(axes)} values ({chosen}); --layout {other} or "
                        "HW reads them otherwise"]
    if len(axes) == 3:
        if axes[2] in CHANNELS and axes[0] not in CHANNELS:
            return "HWC", [f"the last axis was read as {axes[2]} channels; --layout CHW or DHW reads it otherwise"]
        note = f"the first axis of a sample was read as {axes[0]} channels; --layout HWC or DHW reads it otherwise"
        return "CHW", [] if axes[0] in CHANNELS else [note]
    chosen, other, channels = ("DHWC", "CDHW", axes[3]) if axes[3] <= 4 < axes[0] else ("CDHW", "DHWC", axes[0])
    return chosen, [f"read as volumes of {channels} channels; --layout {other} reads them otherwise"]


def _statistics(values: np.ndarray | StoredRows, where: str, key: str | None) -> dict[str, Any]:
    """Return the result of `measure_channels`, cached with the digest for large files."""
    is_kept = key is not None and values.nbytes >= cache.MIN_CACHED_BYTES
    if is_kept and (record := cache.load_record(key)):
        return record
    record = {"channels": {} if values.dtype.kind == "b" else measure_channels(values, where),
              "digest": digest_values(values) if is_kept else None}
    if is_kept and (note := cache.save_record(key, record)):
        return {**record, "notes": [note]}
    return record


def _split_two_axes(labels: np.ndarray, where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return labels or conditions from an array with two axes; the other is None."""
    if labels.shape[1] == 1 and labels.dtype.kind != "f":
        return labels[:, 0], None
    if is_one_hot(labels):
        raise ValueError(f"{where}: labels are one-hot rows of shape {labels.shape}; give the class indices, "
                         "labels.argmax(1)")
    return None, labels


def _check_conditions(conditions: np.ndarray, names: np.ndarray | None, rows: int,
                      where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if conditions.dtype.kind not in "biuf":
        raise ValueError(f"{where}: conditions are {conditions.dtype}; they must be numbers (text is for labels)")
    conditions = conditions[:, None] if conditions.ndim == 1 else conditions
    if conditions.ndim != 2 or len(conditions) != rows or conditions.shape[1] == 0:
        raise ValueError(f"{where}: conditions have shape {conditions.shape}; they must be ({rows}, K) with K >= 1")
    conditions = conditions.astype(np.float64)
    present = conditions[np.isfinite(conditions).all(1)]
    # Keep float64 only if float32 would lose more than a millionth of the range of a column.
    errors = np.abs(present.astype(np.float32) - present)
    if not len(present) or (errors.max(0) <= 1e-6 * np.ptp(present, axis=0)).all():
        conditions = conditions.astype(np.float32)
    check_conditions(f"{where}: conditions", conditions)
    columns = conditions.shape[1]
    return conditions, _check_names("names", names, columns, where) or tuple(map(str, range(columns)))


def _check_names(argument: str, names: np.ndarray | None, count: int, where: str) -> tuple[str, ...]:
    if names is None:
        return ()
    if not count:
        raise ValueError(f"{where}: has {argument}, but its samples are not vectors; leave them out")
    if names.shape != (count,) or names.dtype.kind != "U":
        raise ValueError(f"{where}: {argument} are {names.dtype} of shape {names.shape}; they must be text of shape "
                         f"({count},)")
    return tuple(names.tolist())


def _check_labels(labels: np.ndarray | None, classes: np.ndarray | None, rows: int,
                  where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if classes is not None and (classes.ndim != 1 or classes.dtype.kind != "U"):
        raise ValueError(f"{where}: classes are {classes.dtype} of shape {classes.shape}; "
                         "they must be text of shape (K,), one name per label")
    if labels is None:
        if classes is not None:
            raise ValueError(f"{where}: has classes but no labels; save labels beside them, one per sample")
        return np.full(rows, -1, dtype=np.int64), ()
    if labels.dtype.kind not in "biufUO" or labels.shape != (rows,):
        raise ValueError(f"{where}: labels are {labels.dtype} of shape {labels.shape}; they must be whole numbers or "
                         f"text of shape ({rows},)")
    return number_labels(labels, None if classes is None else tuple(classes.tolist()), where)
