"""Conversion of labels of any type to class indices and names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ornstein.data.spec import DataSpec, printable

__all__ = ["MAX_CLASSES", "is_one_hot", "join_names", "label_notes", "natural_key", "number_classes", "number_labels"]

MAX_CLASSES = 65536
MAX_SPARSE_INDEX = 256  # whole-number labels below this, or below four times their count, are used as class indices
MAX_NAMES = 12  # names that a note lists


def number_labels(labels: Sequence[Any] | np.ndarray, classes: tuple[str, ...] | None,
                  where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as (N,) int64 class indices, -1 for none, and the class names by index.

    Whole numbers >= 0, as numbers or text, are the class indices if few of them are unused; other labels are sorted
    and numbered. None, NaN, "" and -1 mean none, but -1 is a class if there are other negative numbers. `classes` are
    the names by index if the source has them.
    """
    distinct, inverse = _distinct(labels)

    def first_row(index: int) -> int:
        return int(np.flatnonzero(inverse == index)[0])

    for index, label in enumerate(distinct):
        if label is not None and not isinstance(label, bool | int | str):
            shape = getattr(label, "shape", (len(label),) if isinstance(label, list | tuple) else ())
            if shape:
                raise ValueError(f"{where}: the label of sample {first_row(index)} has shape {tuple(shape)}; give the "
                                 "index of its class (argmax(-1) of one-hot rows), or pass the numbers as conditions")
            raise ValueError(f"{where}: the label of sample {first_row(index)} is {label!r}; labels must be all whole "
                             "numbers or all text (pass other numbers as conditions)")
    types = {type(label) for label in distinct if label is not None}
    if len(types) > 1:
        first = next(label for label in distinct if label is not None)
        index, other = next((index, label) for index, label in enumerate(distinct)
                            if label is not None and type(label) is not type(first))
        raise ValueError(f"{where}: the label of sample {first_row(index)} is {other!r}, that of another {first!r}; "
                         "labels must be all whole numbers or all text")
    if str in types and classes is not None:
        index_of, names = {name: index for index, name in enumerate(classes)}, classes
        texts = [None if label is None else printable(label) for label in distinct]
        if unknown := next((text for text in texts if text is not None and text not in index_of), None):
            raise ValueError(f"{where}: label {unknown!r} is none of the classes {', '.join(classes)}")
        indices = [-1 if text is None else index_of[text] for text in texts]
    elif classes is not None or bool in types:
        indices, names = [-1 if label is None else int(label) for label in distinct], classes or ("False", "True")
        for position, index in enumerate(indices):
            if not -1 <= index < len(names):
                raise ValueError(f"{where}: the label of sample {first_row(position)} is {distinct[position]}; it must "
                                 f"be -1 (none) or 0..{len(names) - 1}, because there are {len(names)} class names")
    else:
        texts = [None if label is None else printable(str(label)) for label in distinct]
        known = {text for text in texts if text is not None}
        if "-1" in known and all(re.fullmatch(r"-1|[0-9]+", text) for text in known):
            texts, known = [None if text == "-1" else text for text in texts], known - {"-1"}
        if len(known) > MAX_CLASSES:
            raise ValueError(f"{where}: there are {len(known):,} different labels; at most {MAX_CLASSES:,} classes are "
                             "allowed (pass numbers as conditions)")
        index_of, names = number_classes(known)
        indices = [-1 if text is None else index_of[text] for text in texts]
    return np.array(indices, dtype=np.int64)[inverse], names


def number_classes(names: Iterable[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the index of each of some distinct names, and the names by index; an unused index is its own name."""
    ordered = sorted(names, key=natural_key)
    numbers = [int(name) if re.fullmatch(r"[0-9]{1,18}", name) else -1 for name in ordered]
    if numbers and min(numbers) >= 0 and len(set(numbers)) == len(numbers) and (
            numbers[-1] < min(max(MAX_SPARSE_INDEX, 4 * len(numbers)), MAX_CLASSES)):
        name_of = dict(zip(numbers, ordered, strict=True))
        return dict(zip(ordered, numbers, strict=True)), tuple(name_of.get(k, str(k)) for k in range(numbers[-1] + 1))
    return {name: index for index, name in enumerate(ordered)}, tuple(ordered)


def natural_key(name: str) -> tuple[Any, ...]:
    """Return a sort key for natural order: 9 before 10, -2 before -1, page 9 before page 10."""
    if re.fullmatch(r"-?[0-9]+", name):
        return 0, int(name), name
    parts = re.split(r"([0-9]+)", name)
    return 1, [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def is_one_hot(values: np.ndarray) -> bool:
    """Whether every row of (N, K >= 2) values has a single 1 among zeros, not all in the same column."""
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "biuf" or not len(values):
        return False
    is_valid = ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()
    return bool(is_valid) and len(np.unique(values.argmax(1))) > 1


def label_notes(spec: DataSpec, labels: np.ndarray, conditions: np.ndarray | None) -> list[str]:
    """Return notes on the classes and the empty ones, or on the conditions and their ranges."""
    if spec.conditions and conditions is not None and not np.isnan(conditions).all():
        ranges = zip(spec.conditions, np.nanmin(conditions, 0), np.nanmax(conditions, 0), strict=True)
        return [f"conditioned on {join_names([f'{name} ({low:g} to {high:g})' for name, low, high in ranges])}"]
    if not spec.classes:
        return []
    counts = np.bincount(labels[labels >= 0], minlength=len(spec.classes))
    present = [f"{spec.classes[index]} ({counts[index]:,})" for index in np.flatnonzero(counts)]
    unlabelled = int((labels < 0).sum())
    suffix = f"; {unlabelled:,} without a class (none, NaN or -1)" if unlabelled else ""
    notes = [f"classes: {join_names(present)}{suffix}"]
    if spec.empty:
        names = join_names([spec.classes[index] for index in spec.empty])
        notes.append(f"classes without training samples, which are never drawn: {names}")
    return notes


def join_names(names: Sequence[str]) -> str:
    """Return names separated by commas, shortened if there are many."""
    hidden = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {hidden:,} more" if hidden > 0 else "")


def _distinct(labels: Sequence[Any] | np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Return the distinct labels, and for each sample the index of its label among them."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biufU":
        distinct, inverse = np.unique(labels, return_inverse=True)
        return [_to_python(label) for label in distinct.tolist()], inverse.reshape(labels.shape)
    index_of: dict[tuple[type, Any], int] = {}
    distinct, inverse = [], []
    for label in labels:
        value = _to_python(label)
        key = type(value), value if isinstance(value, bool | int | float | str) else repr(value)
        if key not in index_of:
            index_of[key] = len(distinct)
            distinct.append(value)
        inverse.append(index_of[key])
    return distinct, np.array(inverse, dtype=np.int64)


def _to_python(label: Any) -> Any:
    """Return a label as a Python value: any whole number as int, any missing value as None."""
    if isinstance(label, np.generic):
        label = label.item()
    if label is None or label == "" or type(label).__name__ == "NAType":
        return None
    if isinstance(label, float):
        return None if math.isnan(label) else int(label) if label.is_integer() else label
    return label
