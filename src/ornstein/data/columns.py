"""Which columns of a table hold the pictures or arrays and the labels, by their types and well-known names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.data.spec import printable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ARRAYS", "CONDITIONS", "LABELS", "PICTURES", "Columns", "choose_columns", "dense", "is_plain"]

PICTURES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp")
ARRAYS = ("x", "images", "data", "values", "array", "signal", "trace", "arr_0")
LABELS = ("label", "labels", "class", "category", "target", "y", "fine_label", "cls")
CONDITIONS = ("conditions", "condition")


@dataclass(frozen=True)
class Columns:
    """Names of columns: of the samples, and of what belongs to them, None without; the class names by number; notes."""

    samples: str
    pictures: bool
    label: str | None = None
    classes: tuple[str, ...] | None = None
    conditions: str | None = None
    notes: tuple[str, ...] = ()


def choose_columns(schema: pa.Schema, where: str) -> Columns:
    """Return the columns to read of a table; one that leaves open what is meant is refused."""
    features = _features(schema)
    types = {field.name: getattr(field.type, "storage_type", field.type) for field in schema}
    kinds = {name: _kind(kind) for name, kind in types.items()}
    pictures = [name for name, kind in kinds.items() if kind == "picture"]
    arrays = [name for name, kind in kinds.items() if kind == "array" and name not in CONDITIONS]
    listed = printable(", ".join(f"{field.name} ({field.type})" for field in schema))
    marked = [name for name in pictures if features.get(name, {}).get("_type") == "Image"]
    samples = _one(marked, PICTURES) or _one(pictures, PICTURES) or (None if pictures else _one(arrays, ARRAYS))
    if samples is None:
        fault = ("several columns may hold the samples" if pictures or arrays else
                 "no column holds pictures, arrays or numbers")
        raise ValueError(f"{where}: {fault}, of {listed}; call the one that is meant {PICTURES[0]!r} (pictures) or "
                         f"{ARRAYS[0]!r} (lists of numbers)")
    named = {name: tuple(feature["names"]) for name, feature in features.items()
             if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")}
    plain = [name for name, kind in kinds.items() if name in LABELS and kind in ("number", "bool", "text")]
    label = _one(list(named), LABELS) or _one(plain, LABELS)
    conditions = None if label or pictures else _one(
        [name for name, kind in kinds.items() if name in CONDITIONS and kind in ("array", "number")], CONDITIONS)
    left = [f"column {name!r} ({kind}) was not read" for name, kind in types.items()
            if name in (*LABELS, *CONDITIONS) and name not in (samples, label, conditions)]
    return Columns(samples, bool(pictures), label, named.get(label) if label else None, conditions,
                   tuple(map(printable, left)))


def is_plain(schema: pa.Schema) -> bool:
    """Whether a table has numbers and no pictures or lists of numbers: each row is a vector then."""
    kinds = {_kind(getattr(field.type, "storage_type", field.type)) for field in schema}
    return bool(kinds & {"number", "bool"}) and not kinds & {"picture", "array"}


def dense(column: pa.ChunkedArray, where: str, gaps: bool = False) -> np.ndarray:
    """Return a column of lists, or lists of lists, of numbers as one array; their lengths must agree, and no number may
    be missing unless `gaps` are allowed, which are NaN."""
    import pyarrow as pa

    array, shape = column.combine_chunks(), [len(column)]
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    while _is_list(array.type):
        if array.null_count:
            raise ValueError(f"{where}: {array.null_count} entries are missing; leave those rows out")
        lengths = np.unique(array.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) != 1:
            raise ValueError(f"{where}: its lists have {len(lengths)} different lengths, {lengths[0]} to {lengths[-1]}"
                             if len(lengths) else f"{where}: holds no rows")
        shape.append(int(lengths[0]))
        array = array.flatten()
    if array.null_count and not gaps:
        raise ValueError(f"{where}: {array.null_count} numbers are missing; leave those rows out")
    return array.to_numpy(zero_copy_only=False).reshape(shape)


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):  # other tables have no such note
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _kind(kind: pa.DataType) -> str:
    """What a column of some type holds: a "picture", an "array", a "number", a "bool", a "text", or "" for the rest."""
    import pyarrow as pa

    is_ = pa.types
    if is_.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "picture" if _kind(kind.field(kind.get_field_index("bytes")).type) == "picture" else ""
    if is_.is_binary(kind) or is_.is_large_binary(kind):
        return "picture"
    if _is_list(kind):
        while _is_list(kind):
            kind = kind.value_type
        return "array" if _kind(kind) in ("number", "bool") else ""
    if is_.is_integer(kind) or is_.is_floating(kind):
        return "number"
    texts = is_.is_string(kind) or is_.is_large_string(kind) or is_.is_dictionary(kind)
    return "bool" if is_.is_boolean(kind) else "text" if texts else ""


def _one(names: list[str], known: tuple[str, ...]) -> str | None:
    return names[0] if len(names) == 1 else next((name for name in known if name in names), None)
