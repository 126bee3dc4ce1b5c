"""Tables of numbers, a row a sample: CSV files, data frames, and plain columns of parquet files."""

from __future__ import annotations

import csv
import io
import numbers
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.data.array import load_array, load_numbered
from ornstein.data.dataset import Dataset
from ornstein.data.labels import listed, number_labels
from ornstein.data.spec import printable
from ornstein.files import open_regular

__all__ = ["Table", "by_name", "label_of", "load_csv", "load_frame", "load_table", "read_csv"]

Table = dict[str, np.ndarray]  # each (N,): numbers, NaN where one is missing, or objects, None where one is

# A column y is no label: it stands beside x more often.
TARGETS = ("label", "labels", "class", "classes", "category", "target", "cls")
MISSING = ("", "na", "n/a", "nan", "null", "none")
SEPARATORS = ",;\t"


def load_csv(path: Path, where: str, layout: str = "auto") -> Dataset:
    """Return the rows of a file of comma-, semicolon- or tab-separated values as vectors; the first line names the
    columns, unless it is all numbers."""
    table, notes = read_csv(path, where)
    return _load(table, printable(path.stem), where, layout, notes)


def read_csv(path: Path, where: str) -> tuple[Table, list[str]]:
    """The columns of a file of comma-, semicolon- or tab-separated values, and notes on how they were read."""
    try:
        with open_regular(path) as file:
            text = io.StringIO(file.read().decode("utf-8-sig"), newline="")
        first = re.sub('"[^"]*"', "", text.readline())  # without what is quoted
        text.seek(0)
        reader = csv.reader(text, delimiter=max(SEPARATORS, key=first.count))
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{where}: is no CSV file in UTF-8 ({printable(str(error))}); save it as one") from None
    if not lines:
        raise ValueError(f"{where}: is empty; a table has a line of names and then rows of numbers")
    names, notes = lines[0][1], []
    if all(_number(cell) for cell in names):
        names, notes = [str(place) for place in range(len(names))], ["the first line is all numbers: read as a row"]
    else:
        del lines[0]
    for line, row in lines:
        if len(row) != len(names):
            raise ValueError(f"{where}: line {line} has {len(row)} values, and there are {len(names)} columns; fix it")
    cells = zip(*(row for _, row in lines), strict=True) if lines else [()] * len(names)
    return by_name(names, [_read(column) for column in cells], where), notes


def load_frame(frame: Any, layout: str = "auto") -> Dataset:
    """Return the rows of a data frame of pandas or polars as vectors."""
    names = [str(name) for name in frame.columns]
    return load_table(names, (frame[name].to_numpy() for name in frame.columns), "table", "data", layout)


def load_table(names: Sequence[str], columns: Iterable[Any], name: str, where: str, layout: str = "auto") -> Dataset:
    """Return rows of columns, each (N,) numbers or text, as vectors (N, D) of those that are numbers.

    A column called label, class, target or such becomes the classes, or numbers to condition on where it has fractions.
    """
    return _load(by_name(names, columns, where), name, where, layout, [])


def by_name(names: Sequence[str], columns: Iterable[Any], where: str) -> Table:
    """Columns under their names, which must differ."""
    shown = [printable(one) for one in names]
    if twice := sorted({one for one in shown if shown.count(one) > 1}):
        raise ValueError(f"{where}: has columns of one name, {listed(twice)}; give each its own")
    return dict(zip(shown, map(_plain, columns), strict=True))


def label_of(table: Table) -> str | None:
    """The column of labels, by its name."""
    return min((one for one in table if one.lower() in TARGETS), key=lambda one: TARGETS.index(one.lower()),
               default=None)


def _load(table: Table, name: str, where: str, layout: str, notes: list[str]) -> Dataset:
    label = label_of(table)
    target = table.pop(label) if label is not None else None
    if words := [one for one, values in table.items() if values.dtype.kind == "O"]:
        raise ValueError(f"{where}: not all columns are numbers: {listed(words)}; leave those out, or write numbers in "
                         "them (a column of class names must be called label)")
    if not table or not len(next(iter(table.values()))):
        raise ValueError(f"{where}: has {'no rows' if table else 'no column of numbers'}; a sample is a row of numbers")
    empty = {one: int(np.isnan(values).sum()) for one, values in table.items() if values.dtype.kind == "f"}
    if lacking := [f"{one} ({count})" for one, count in empty.items() if count]:
        raise ValueError(f"{where}: values are missing from its columns: {listed(lacking)}; fill them in, or leave "
                         "those rows out")
    values = np.stack(list(table.values()), axis=1)
    said = [f"vectors of the columns {listed(list(table))}", *notes]
    whole = [one.dtype.kind in "biu" and abs(one).max() <= 2**53 for one in table.values()]
    named = list(table) != list(map(str, range(len(table))))  # and not merely numbered, as where nothing names them
    options: dict[str, Any] = {"layout": layout, "name": name, "where": where,
                               "columns": np.array(list(table)) if named and layout in ("auto", "V") else None,
                               "whole": whole if values.dtype.kind == "f" else ()}
    if target is None:
        return load_numbered(values, None, said, **options)
    if target.dtype.kind == "f" and np.mod(target[np.isfinite(target)], 1).any():
        data = load_array(values, conditions=target[:, None], classes=np.array([label]), **options)
        data.notes[:0] = [*said, f"column {label!r} has fractions: it is what the vectors are conditioned on"]
        return data
    said.append(f"labels are in column {label!r}")
    return load_numbered(values, number_labels(target, None, where), said, **options)


def _plain(column: Any) -> np.ndarray:
    """A column as numbers, NaN where one is missing; as objects where it holds anything else."""
    values = np.asarray(column)
    if values.dtype.kind in "biuf":
        return values
    known = [one for one in values.tolist() if not _missing(one)]
    if values.dtype.kind == "O" and all(isinstance(one, numbers.Real) for one in known):
        return np.array([np.nan if _missing(one) else one for one in values.tolist()], dtype=np.float64)
    return np.array([None if _missing(one) else one if isinstance(one, str) else str(one) for one in values.tolist()],
                    dtype=object)


def _missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _read(cells: Sequence[str]) -> np.ndarray:
    """Cells of a column as whole numbers, numbers, truth values or text, whichever fits first."""
    known = [cell for cell in cells if cell.lower() not in MISSING]
    for kind in (np.int64, np.float64) if known or not cells else (np.float64,):
        try:
            if kind is np.float64:
                return np.array([np.nan if cell.lower() in MISSING else float(cell) for cell in cells])
            return np.array([int(cell) for cell in cells], kind)
        except (ValueError, OverflowError):
            continue
    if known and {cell.lower() for cell in cells} <= {"true", "false"}:
        return np.array([cell.lower() == "true" for cell in cells])
    return np.array([None if cell.lower() in MISSING else cell for cell in cells], dtype=object)


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
