"""Arrays in memory and in .npy and .npz files, which are read as numbers only; a large .npy is read row by row."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.arguments import require
from ornstein.data import cache
from ornstein.data.dataset import Dataset, check_conditions, digest_values, hold_out
from ornstein.data.labels import number_labels, one_hot
from ornstein.data.ranges import choose, survey
from ornstein.data.spec import LAYOUTS, DataSpec, channel_first, printable
from ornstein.data.stored import StoredRows
from ornstein.files import open_regular

__all__ = ["load_array", "load_array_file", "load_numbered", "read_layout"]

CHANNELS = (1, 3, 4)
PICTURE_SIDE, PICTURE_SHAPE = 8, 4  # the shortest side and the longest proportion of what is taken for grey pictures
BESIDE = ("labels", "y", "classes", "conditions", "condition", "names", "columns", "ornstein")


def load_array_file(path: Path, layout: str = "auto") -> Dataset:
    """Return the set in a .npy or .npz file.

    A .npz file holds one array of samples (x, images, data, arr_0, or any one name), optionally labels or y, (N,) whole
    numbers or text, and classes, their names by number; or conditions, (N,) or (N, K) numbers, and names, one for each
    column; and columns, names of the entries of vectors.
    """
    where = printable(str(path))
    if not os.path.exists(path):
        raise FileNotFoundError(f"{where}: there is no such file")
    if not os.path.isfile(path):
        raise ValueError(f"{where}: is not a regular file; give a .npy or a .npz file")
    members = _read(path, where)
    labels = [members[name] for name in ("labels", "y") if name in members]
    conditions = [members[name] for name in ("conditions", "condition") if name in members]
    samples = [array for name, array in members.items() if name not in BESIDE]
    if len(samples) != 1 or len(labels) + len(conditions) > 1:
        raise ValueError(f"{where}: holds {printable(', '.join(members)) or 'nothing'}; it must hold one array of "
                         "samples (x, images, data or arr_0), and may hold labels (or y) and classes, or conditions "
                         "and names, but not both")
    for beside, wanted, there in (("names", "conditions", conditions), ("classes", "labels", labels)):
        if beside in members and not there:
            raise ValueError(f"{where}: has {beside} and no {wanted}; save {wanted} beside them, one per sample")
    data = load_array(samples[0], *labels, classes=members.get("names" if conditions else "classes"),
                      conditions=conditions[0] if conditions else None, columns=members.get("columns"), layout=layout,
                      name=printable(path.stem), where=where)
    if isinstance(samples[0], np.ndarray) and samples[0].flags.f_contiguous and samples[0].nbytes >= cache.SMALL:
        data.notes.append("the array lies in the file by columns (Fortran order): it was read into memory as a whole")
    return data


def _read(path: Path, where: str) -> dict[str, Any]:
    with open_regular(path) as file:
        start = file.read(6)
        if not start.startswith((b"\x93NUMPY", b"PK")):
            raise ValueError(f"{where}: is neither a .npy nor a .npz file; write it with numpy.save or numpy.savez")
        file.seek(0)
        # Broken headers and archives raise a dozen types between them, all of which mean the same to the user.
        try:
            if start.startswith(b"\x93NUMPY"):
                stored = StoredRows(path)
                large = stored.in_rows and stored.nbytes >= cache.SMALL
                return {"x": stored if large else np.load(file, allow_pickle=False)}
            with np.load(file, allow_pickle=False) as archive:
                parts = {name: archive[name] for name in archive.files}
        except Exception as error:
            if "Python objects" in str(error) or "Object arrays" in str(error):
                raise ValueError(f"{where}: holds Python objects, which are never loaded: save plain "
                                 "numbers") from error
            reason = printable(str(error)) or type(error).__name__
            raise ValueError(f"{where}: is broken or cut short ({reason}); write it again") from error
    for name, part in parts.items():
        if not isinstance(part, np.ndarray):  # numpy hands out a member that is no array as bytes
            raise ValueError(f"{where}: member {name!r} is not an array; write the file with numpy.savez")
    return parts


def load_array(values: np.ndarray | StoredRows, labels: np.ndarray | None = None, classes: np.ndarray | None = None, *,
               conditions: np.ndarray | None = None, columns: np.ndarray | None = None, layout: str = "auto",
               name: str = "array", where: str = "array", whole: Sequence[bool] = ()) -> Dataset:
    """Return a set from an array of samples.

    `values` are (N, *axes of the layout), copied unless they are in a file; `labels` (N,) or (N, 1), or, as vector
    conditions, (N, K) numbers; `conditions` (N,) or (N, K), a row of NaN for none; `classes` (K,) name the labels or
    the conditions. `columns` (D,) name the entries of vectors; where those are floats, `whole` says which columns hold
    whole numbers.
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
        key = cache.key_of("survey", values.facts, layout)
    else:
        values = np.array(channel_first(values, layout), order="C")
    record = _scanned(values, where, key)
    for column in np.flatnonzero(whole):
        apart = np.abs(values[:, column] - values[0, column]).astype(np.int64)
        record["channels"]["step"][column] = int(np.gcd.reduce(apart))
    picture = values.ndim == 4 and values.shape[1] in CHANNELS
    span = choose(values.dtype, record["channels"], picture)
    if labels is not None and labels.ndim == 2:
        labels, conditions = _columns(labels, where)
    names, numbers = (), np.full(len(values), -1, dtype=np.int64)
    if conditions is not None:
        conditions, names = _conditions(conditions, classes, len(values), where)
    else:
        numbers, names = _labelled(labels, classes, len(values), where)
    if conditions is not None and one_hot(conditions):
        notes.append("the conditions are one-hot rows; as labels (argmax(1)) they would be classes, with names")
    held, unheld = hold_out(len(values))
    # A range for each channel is for fields and measurements; a picture has one.
    kind = "picture" if picture and not isinstance(span.low, tuple) else "array"
    if kind == "picture" and values.shape[1] == 4:
        notes.append("pictures of 4 channels: all four are learnt and are in a .npz, drawings show the first three; if "
                     "the fourth is transparency, save them as PNG files and learn those with --alpha")
    try:
        spec = DataSpec(name, kind, values.shape[1:], span.low, span.high, span.levels,
                        () if conditions is not None else names, layout, names if conditions is not None else (),
                        least=span.least, most=span.most,
                        columns=_names("columns", columns, values.shape[1] if layout == "V" else 0, where))
        notes += [*span.notes, *record.get("notes", []), *unheld]
        return Dataset(values, numbers, held, spec, notes, conditions=conditions, values_digest=record["digest"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def load_numbered(values: np.ndarray, numbered: tuple[np.ndarray, tuple[str, ...]] | None, notes: Iterable[str] = (),
                  **options: Any) -> Dataset:
    """`load_array` of samples whose labels `number_labels` has numbered and named; the notes come first."""
    labels, names = numbered or (None, ())
    data = load_array(values, *((labels, np.array(names, dtype=str)) if names else ()), **options)
    data.notes[:0] = notes
    return data


def read_layout(shape: tuple[int, ...], layout: str, where: str) -> tuple[str, list[str]]:
    """Return the layout of an (N, ...) array and the notes to it.

    "auto" is a function of the shape alone. Two axes after N: grey pictures where both sides are 8 or more and the
    longer is at most 4 times the shorter, else traces, whose channels are the shorter axis. Three: channels last where
    the last axis is 1, 3 or 4 and the second is not. Four: channels last where the last is 1 to 4 and the second is
    not.
    """
    axes, words = shape[1:], sorted(word for group in LAYOUTS.values() for word in group)
    if layout != "auto":
        require("layout", layout, ["auto", *words])
        if len(layout) != len(axes):
            fitting = " or ".join(word for word in words if len(word) == len(axes))
            raise ValueError(f"{where}: layout {layout!r} has {len(layout)} axes and a sample has {len(axes)}, "
                             f"{axes}; it must be {fitting}")
        return layout, []
    if len(axes) == 1:
        return "V", [f"read as vectors of {axes[0]} values; --layout L reads them as traces"] if axes[0] >= 32 else []
    if len(axes) == 2:
        if min(axes) >= PICTURE_SIDE and max(axes) <= PICTURE_SHAPE * min(axes):
            return "HW", [f"read as grey pictures of {axes[0]}x{axes[1]}; --layout CL or LC reads them as traces"]
        read, other = ("LC", "CL") if axes[1] < axes[0] else ("CL", "LC")
        return read, [f"read as traces, {min(axes)} channels of {max(axes)} values ({read}); --layout {other} or HW "
                      "reads them otherwise"]
    if len(axes) == 3:
        if axes[2] in CHANNELS and axes[0] not in CHANNELS:
            return "HWC", [f"the last axis was read as {axes[2]} channels; --layout CHW or DHW reads it otherwise"]
        said = f"the first axis of a sample was read as {axes[0]} channels; --layout HWC or DHW reads it otherwise"
        return "CHW", [] if axes[0] in CHANNELS else [said]
    last = axes[3] <= 4 < axes[0]
    number, other = (axes[3], "CDHW") if last else (axes[0], "DHWC")
    return "DHWC" if last else "CDHW", [f"read as volumes of {number} channels; --layout {other} reads them otherwise"]


def _scanned(values: np.ndarray | StoredRows, where: str, key: str | None) -> dict[str, Any]:
    """What `survey` finds, and the digest where the file is so large that it was kept."""
    kept = key is not None and values.nbytes >= cache.SMALL
    if kept and (record := cache.recall(key)):
        return record
    record = {"channels": {} if values.dtype.kind == "b" else survey(values, where),
              "digest": digest_values(values) if kept else None}
    if kept and (note := cache.remember(key, record)):
        return {**record, "notes": [note]}
    return record


def _columns(labels: np.ndarray, where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Labels or conditions from two axes, of which the other is None."""
    if labels.shape[1] == 1 and labels.dtype.kind != "f":
        return labels[:, 0], None
    if one_hot(labels):
        raise ValueError(f"{where}: labels are one-hot rows of shape {labels.shape}; give the numbers of the classes, "
                         "labels.argmax(1)")
    return None, labels


def _conditions(conditions: np.ndarray, names: np.ndarray | None, rows: int,
                where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if conditions.dtype.kind not in "biuf":
        raise ValueError(f"{where}: conditions are {conditions.dtype}; they must be numbers (text is for labels)")
    conditions = conditions[:, None] if conditions.ndim == 1 else conditions
    if conditions.ndim != 2 or len(conditions) != rows or conditions.shape[1] == 0:
        raise ValueError(f"{where}: conditions have shape {conditions.shape}; they must be ({rows}, K) with K >= 1")
    conditions = conditions.astype(np.float64)
    known = conditions[np.isfinite(conditions).all(1)]
    # In float64 only where float32 would lose more than a millionth of what a column spans.
    if not len(known) or (np.abs(known.astype(np.float32) - known).max(0) <= 1e-6 * np.ptp(known, axis=0)).all():
        conditions = conditions.astype(np.float32)
    check_conditions(f"{where}: conditions", conditions)
    columns = conditions.shape[1]
    return conditions, _names("names", names, columns, where) or tuple(map(str, range(columns)))


def _names(what: str, names: np.ndarray | None, count: int, where: str) -> tuple[str, ...]:
    if names is None:
        return ()
    if not count:
        raise ValueError(f"{where}: has {what}, and its samples are no vectors; leave them out")
    if names.shape != (count,) or names.dtype.kind != "U":
        raise ValueError(f"{where}: {what} are {names.dtype} of shape {names.shape}; they must be text of shape "
                         f"({count},)")
    return tuple(names.tolist())


def _labelled(labels: np.ndarray | None, classes: np.ndarray | None, rows: int,
              where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if classes is not None and (classes.ndim != 1 or classes.dtype.kind != "U"):
        raise ValueError(f"{where}: classes are {classes.dtype} of shape {classes.shape}; "
                         "they must be text of shape (K,), one name per label")
    if labels is None:
        if classes is not None:
            raise ValueError(f"{where}: has classes and no labels; save labels beside them, one per sample")
        return np.full(rows, -1, dtype=np.int64), ()
    if labels.dtype.kind not in "biufUO" or labels.shape != (rows,):
        raise ValueError(f"{where}: labels are {labels.dtype} of shape {labels.shape}; they must be whole numbers or "
                         f"text of shape ({rows},)")
    return number_labels(labels, None if classes is None else tuple(classes.tolist()), where)
