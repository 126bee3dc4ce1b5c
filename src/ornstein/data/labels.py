"""From labels of any kind to classes: the number of each sample's class, and what the classes are called."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ornstein.data.spec import DataSpec, printable

__all__ = ["MOST_CLASSES", "listed", "natural", "number_labels", "number_names", "one_hot", "said"]

MOST_CLASSES = 65536
SPREAD = 256  # numbers up to here, or up to four times as many as there are classes, stay the numbers of their classes
SHOWN = 12  # classes that a note names


def number_labels(labels: Sequence[Any] | np.ndarray, classes: tuple[str, ...] | None,
                  where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as (N,) int64 class numbers, -1 for none, and the names of the classes by number.

    Whole numbers from 0 on, as numbers or as text, are the numbers of their classes as long as few are left out; all
    others are numbered in order. None, NaN, "" and -1 mean none; -1 is a class beside other negative numbers. `classes`
    are the names by number where the source has them.
    """
    different, place = _distinct(labels)
    for number, label in enumerate(different):
        if label is not None and not isinstance(label, bool | int | str):
            row = int(np.flatnonzero(place == number)[0])
            shape = getattr(label, "shape", (len(label),) if isinstance(label, list | tuple) else ())
            if shape:
                raise ValueError(f"{where}: the label of sample {row} has shape {tuple(shape)}; give the number of its "
                                 "class (of one-hot rows argmax(-1)), or call the numbers conditions")
            raise ValueError(f"{where}: the label of sample {row} is {label!r}; labels must be all whole numbers or "
                             "all text (call numbers to condition on conditions)")
    kinds = {type(label) for label in different if label is not None}
    if len(kinds) > 1:
        first = next(label for label in different if label is not None)
        number = next(n for n, label in enumerate(different) if label is not None and type(label) is not type(first))
        row = int(np.flatnonzero(place == number)[0])
        raise ValueError(f"{where}: the label of sample {row} is {different[number]!r}, that of another {first!r}; "
                         "labels must be all whole numbers or all text")
    if str in kinds and classes is not None:
        numbers, names = {name: number for number, name in enumerate(classes)}, classes
        shown = [None if label is None else printable(label) for label in different]
        if strange := next((label for label in shown if label is not None and label not in numbers), None):
            raise ValueError(f"{where}: label {strange!r} is none of the classes {', '.join(classes)}")
        table = [-1 if label is None else numbers[label] for label in shown]
    elif classes is not None or bool in kinds:
        table, names = [-1 if label is None else int(label) for label in different], classes or ("False", "True")
        wrong = next((n for n, number in enumerate(table) if not -1 <= number < len(names)), None)
        if wrong is not None:
            row = int(np.flatnonzero(place == wrong)[0])
            raise ValueError(f"{where}: the label of sample {row} is {different[wrong]}; it must be -1 (none) or "
                             f"0..{len(names) - 1}, for there are {len(names)} names of classes")
    else:
        shown = [None if label is None else printable(str(label)) for label in different]
        texts = {label for label in shown if label is not None}
        if "-1" in texts and all(re.fullmatch(r"-1|[0-9]+", text) for text in texts):
            shown, texts = [None if label == "-1" else label for label in shown], texts - {"-1"}
        if len(texts) > MOST_CLASSES:
            raise ValueError(f"{where}: there are {len(texts):,} different labels; there may be {MOST_CLASSES:,} "
                             "classes (call numbers to condition on conditions)")
        numbers, names = number_names(texts)
        table = [-1 if label is None else numbers[label] for label in shown]
    return np.array(table, dtype=np.int64)[place], names


def number_names(names: Iterable[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the number of each of some distinct names, and the names by number, where a number that is no name's is
    its own."""
    ordered = sorted(names, key=natural)
    values = [int(name) if re.fullmatch(r"[0-9]{1,18}", name) else -1 for name in ordered]
    if values and min(values) >= 0 and len(set(values)) == len(values) and (
            values[-1] < min(max(SPREAD, 4 * len(values)), MOST_CLASSES)):
        named = dict(zip(values, ordered, strict=True))
        return dict(zip(ordered, values, strict=True)), tuple(named.get(k, str(k)) for k in range(values[-1] + 1))
    return {name: number for number, name in enumerate(ordered)}, tuple(ordered)


def natural(name: str) -> tuple[Any, ...]:
    """A key that sorts names as people count: 9 before 10, -2 before -1, page 9 before page 10."""
    if re.fullmatch(r"-?[0-9]+", name):
        return 0, int(name), name
    parts = re.split(r"([0-9]+)", name)
    return 1, [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def one_hot(values: np.ndarray) -> bool:
    """Whether every row of (N, K >= 2) values is a single 1 among zeros, and not all the same one."""
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "biuf" or not len(values):
        return False
    plain = ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()
    return bool(plain) and len(np.unique(values.argmax(1))) > 1


def said(spec: DataSpec, labels: np.ndarray, conditions: np.ndarray | None) -> list[str]:
    """Return notes that name the classes, and those that no training row has, or the conditions with their range."""
    if spec.conditions and conditions is not None and not np.isnan(conditions).all():
        ends = zip(spec.conditions, np.nanmin(conditions, 0), np.nanmax(conditions, 0), strict=True)
        return [f"conditioned on {listed([f'{name} ({low:g} to {high:g})' for name, low, high in ends])}"]
    if not spec.classes:
        return []
    counts = np.bincount(labels[labels >= 0], minlength=len(spec.classes))
    there = [f"{spec.classes[number]} ({counts[number]:,})" for number in np.flatnonzero(counts)]
    none = int((labels < 0).sum())
    notes = [f"classes: {listed(there)}" + (f"; {none:,} without a class (none, NaN or -1)" if none else "")]
    if spec.empty:
        names = listed([spec.classes[number] for number in spec.empty])
        notes.append(f"classes that no sample to train on has, which are never drawn: {names}")
    return notes


def listed(names: Sequence[str]) -> str:
    """Names with commas, the first of many."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _distinct(labels: Sequence[Any] | np.ndarray) -> tuple[list[Any], np.ndarray]:
    """The different labels, and for each sample the place of its own among them."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biufU":
        different, place = np.unique(labels, return_inverse=True)
        return [_plain(label) for label in different.tolist()], place.reshape(labels.shape)
    places: dict[tuple[type, Any], int] = {}
    different, place = [], []
    for label in labels:
        one = _plain(label)
        key = type(one), one if isinstance(one, bool | int | float | str) else repr(one)
        if key not in places:
            places[key] = len(different)
            different.append(one)
        place.append(places[key])
    return different, np.array(place, dtype=np.int64)


def _plain(label: Any) -> Any:
    """A label as Python has it: whole numbers of any type as int, and None for whatever means none."""
    if isinstance(label, np.generic):
        label = label.item()
    if label is None or label == "" or type(label).__name__ == "NAType":
        return None
    if isinstance(label, float):
        return None if math.isnan(label) else int(label) if label.is_integer() else label
    return label
