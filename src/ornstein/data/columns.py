"""Choice of the sample and label columns of a table, by type and well-known names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.data.spec import printable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ARRAYS", "CONDITIONS", "LABELS", "PICTURES", "Columns", "choose_columns", "is_numeric_table", "to_dense"]

PICTURES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp")
ARRAYS = ("x", "images", "data", "values", "array", "signal", "trace", "arr_0")
LABELS = ("label", "labels", "class", "category", "target", "y", "fine_label", "cls")
CONDITIONS = ("conditions", "condition")


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read, None if absent; class names by index; notes."""

    samples: str
    pictures: bool
    label: str | None = None
    classes: tuple[str, ...] | None = None
    conditions: str | None = None
    notes: tuple[str, ...] = ()


def choose_columns(schema: pa.Schema, where: str) -> Columns:
    """Return the columns to read from a table; raise ValueError if they are ambiguous."""
    features = _hub_features(schema)
    types = {field.name: getattr(field.type, "storage_type", field.type) for field in schema}
    kinds = {name: _column_kind(kind) for name, kind in types.items()}
    pictures = [name for name, kind in kinds.items() if kind == "picture"]
    arrays = [name for name, kind in kinds.items() if kind == "array" and name not in CONDITIONS]
    available = printable(", ".join(f"{field.name} ({field.type})" for field in schema))
    declared = [name for name in pictures if features.get(name, {}).get("_type") == "Image"]
    samples = _pick(declared, PICTURES) or _pick(pictures, PICTURES) or (None if pictures else _pick(arrays, ARRAYS))
    if samples is None:
        problem = ("several columns may hold the samples" if pictures or arrays else
                   "no column holds pictures, arrays or numbers")
        raise ValueError(f"{where}: {problem}, of {available}; name the right one {PICTURES[0]!r} (pictures) or "
                         f"{ARRAYS[0]!r} (lists of numbers)")
    class_names = {name: tuple(feature["names"]) for name, feature in features.items()
                   if feature.get("_type") == "ClassLabel" and feature.get("names")}
    label_like = [name for name, kind in kinds.items() if name in LABELS and kind in ("number", "bool", "text")]
    label = _pick(list(class_names), LABELS) or _pick(label_like, LABELS)
    conditions = None if label or pictures else _pick(
        [name for name, kind in kinds.items() if name in CONDITIONS and kind in ("array", "number")], CONDITIONS)
    unread = [f"column {name!r} ({kind}) was not read" for name, kind in types.items()
              if name in (*LABELS, *CONDITIONS) and name not in (samples, label, conditions)]
    return Columns(samples, bool(pictures), label, class_names.get(label) if label else None, conditions,
                   tuple(map(printable, unread)))


def is_numeric_table(schema: pa.Schema) -> bool:
    """Whether a table has columns of numbers but no pictures or lists, so that each row is a vector."""
    kinds = {_column_kind(getattr(field.type, "storage_type", field.type)) for field in schema}
    return bool(kinds & {"number", "bool"}) and not kinds & {"picture", "array"}


def to_dense(column: pa.ChunkedArray, where: str, allow_missing: bool = False) -> np.ndarray:
    """Return a column of (nested) lists of numbers, of equal lengths, as one array; missing numbers become NaN if
    `allow_missing`, else they raise ValueError."""
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
    if array.null_count and not allow_missing:
        raise ValueError(f"{where}: {array.null_count} numbers are missing; leave those rows out")
    return array.to_numpy(zero_copy_only=False).reshape(shape)


def _hub_features(schema: pa.Schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):  # the table was not written by Hugging Face's `datasets`
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _is_list(arrow_type: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type)


def _column_kind(arrow_type: pa.DataType) -> str:
    """Return what a column type holds: "picture", "array", "number", "bool", "text", or "" for anything else."""
    import pyarrow as pa

    types = pa.types
    if types.is_struct(arrow_type) and (index := arrow_type.get_field_index("bytes")) >= 0:
        return "picture" if _column_kind(arrow_type.field(index).type) == "picture" else ""
    if types.is_binary(arrow_type) or types.is_large_binary(arrow_type):
        return "picture"
    if _is_list(arrow_type):
        while _is_list(arrow_type):
            arrow_type = arrow_type.value_type
        return "array" if _column_kind(arrow_type) in ("number", "bool") else ""
    if types.is_integer(arrow_type) or types.is_floating(arrow_type):
        return "number"
    is_text = types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_dictionary(arrow_type)
    return "bool" if types.is_boolean(arrow_type) else "text" if is_text else ""


def _pick(names: list[str], preferred: tuple[str, ...]) -> str | None:
    return names[0] if len(names) == 1 else next((name for name in preferred if name in names), None)
