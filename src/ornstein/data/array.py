"""Arrays in memory and in .npy and .npz files, which are read as numbers only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ornstein.data.dataset import Dataset, check_finite, hold_out
from ornstein.data.spec import MOST_LEVELS, DataSpec, printable

__all__ = ["load_array", "load_array_file"]

MOST_CLASSES = 65536
EXACT = 2**24  # float32 holds every whole number up to here
CHANNELS = (1, 3, 4)


def load_array_file(path: Path) -> Dataset:
    """Return the set in a .npy or .npz file.

    A .npz file holds one array of samples (x, images, data, arr_0, or any one name), optionally labels or y,
    (N,) whole numbers, and classes, their names by index.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, holds Python objects or other arrays, or `load_array` refuses what it holds.
    """
    where = printable(str(path))
    if not path.exists():
        raise FileNotFoundError(f"{where}: there is no such file")
    if not path.is_file():
        raise ValueError(f"{where}: is not a regular file; give a .npy or a .npz file")
    parts = _read(path, where)
    labels = [parts[name] for name in ("labels", "y") if name in parts]
    samples = [array for name, array in parts.items() if name not in ("labels", "y", "classes")]
    if len(samples) != 1 or len(labels) > 1:
        raise ValueError(f"{where}: holds {printable(', '.join(parts)) or 'nothing'}; it must hold one array of "
                         "samples (x, images, data or arr_0), and may hold labels (or y) and classes")
    return load_array(samples[0], labels[0] if labels else None, parts.get("classes"),
                      name=printable(path.stem), where=where)


def _read(path: Path, where: str) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        if not file.read(6).startswith((b"\x93NUMPY", b"PK")):
            raise ValueError(f"{where}: is neither a .npy nor a .npz file; write it with numpy.save or numpy.savez")
    # Broken headers and archives raise a dozen types between them, all of which mean the same to the user.
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded as archive:
            parts = {name: archive[name] for name in archive.files}
    except Exception as error:
        if "Python objects" in str(error) or "Object arrays" in str(error):
            raise ValueError(f"{where}: holds Python objects, which are never loaded: save plain numbers") from error
        reason = printable(str(error)) or type(error).__name__
        raise ValueError(f"{where}: is broken or cut short ({reason}); write it again") from error
    for name, part in parts.items():
        if not isinstance(part, np.ndarray):  # numpy hands out a member that is no array as bytes
            raise ValueError(f"{where}: member {name!r} is not an array; write the file with numpy.savez")
    return parts


def load_array(values: np.ndarray, labels: np.ndarray | None = None, classes: np.ndarray | None = None, *,
               name: str = "array", where: str = "array") -> Dataset:
    """Return a set from an array of samples.

    Args:
        values: (N, D) vectors, (N, H, W) grey pictures, or (N, C, H, W) or (N, H, W, C) pictures; bool, whole or
            floating numbers, finite, N >= 1. Channels come last where the last axis is 1, 3 or 4 and the second is not.
        labels: (N,) whole numbers, -1 for none.
        classes: (K,) names of the labels 0..K-1; the numbers themselves when None.
        name: short name of the source.
        where: how messages call the source.

    Raises:
        ValueError: any of these is not so.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{where}: is a masked array; fill it or drop the masked rows first")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{where}: holds {values.dtype}; values must be bool, whole or floating numbers")
    if not 2 <= values.ndim <= 4:
        raise ValueError(f"{where}: has shape {values.shape}; it must be (N, D), (N, H, W), (N, C, H, W) "
                         "or (N, H, W, C)")
    if 0 in values.shape:
        raise ValueError(f"{where}: has shape {values.shape}; at least 1 sample of at least 1 value is needed")
    notes = []
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[3] in CHANNELS and values.shape[1] not in CHANNELS:
        values = np.moveaxis(values, 3, 1)
        notes.append(f"the last axis was read as {values.shape[1]} channels")
    stored, low, high, levels, said = _ranged(values, where)
    numbers, names = _labelled(labels, classes, len(values), where)
    held, unheld = hold_out(len(values))
    kind = "array" if values.ndim == 2 else "picture"
    try:
        spec = DataSpec(name, kind, stored.shape[1:], low, high, levels, names)
        return Dataset(stored, numbers, held, spec, notes + said + unheld)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _ranged(values: np.ndarray, where: str) -> tuple[np.ndarray, float, float, int | None, list[str]]:
    if values.dtype == np.uint8 or values.dtype.kind == "b":
        top = 255 if values.dtype == np.uint8 else 1
        return np.array(values, dtype=np.uint8, order="C"), 0.0, float(top), top + 1, []
    check_finite(f"{where}:", values)
    least, most = values.min().item(), values.max().item()
    if max(-least, most) > float(np.finfo(np.float32).max):
        raise ValueError(f"{where}: has values {least}..{most}; they must lie within +-3.4e38, the range of float32")
    stored = np.array(values, dtype=np.float32, order="C")
    low, high, levels = float(stored.min()), float(stored.max()), None
    notes = []
    if values.dtype.kind in "iu":
        if max(-least, most) > EXACT:
            notes.append(f"whole numbers beyond {EXACT} are rounded to float32")
        elif 2 <= most - least + 1 <= MOST_LEVELS:
            levels = most - least + 1
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= -1 and high <= 1:
        low, high = -1.0, 1.0
    if low == high:
        notes.append(f"every value is {low:g}: the range is widened by 0.5 on either side")
        low, high = low - 0.5, high + 0.5
    notes.append(f"source values {low:g}..{high:g} map to -1..1")
    return stored, low, high, levels, notes


def _labelled(labels: np.ndarray | None, classes: np.ndarray | None, rows: int,
              where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels is None:
        if classes is not None:
            raise ValueError(f"{where}: has classes and no labels; save labels beside them, one per sample")
        return np.full(rows, -1, dtype=np.int64), ()
    if labels.dtype.kind not in "iu" or labels.shape != (rows,):
        raise ValueError(f"{where}: labels are {labels.dtype} of shape {labels.shape}; "
                         f"they must be whole numbers of shape ({rows},)")
    count = int(labels.max()) + 1
    if count > MOST_CLASSES:
        raise ValueError(f"{where}: labels reach {count - 1}; number them from 0 to {MOST_CLASSES - 1} at most")
    if classes is None:
        names = tuple(map(str, range(count)))
    elif classes.ndim != 1 or classes.dtype.kind != "U":
        raise ValueError(f"{where}: classes are {classes.dtype} of shape {classes.shape}; "
                         "they must be text of shape (K,), one name per label")
    else:
        names = tuple(classes.tolist())
    return labels.astype(np.int64), names
