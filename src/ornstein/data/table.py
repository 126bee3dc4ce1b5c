"""Tables of numbers with one sample per row: CSV files, data frames and numeric parquet files."""

from __future__ import annotations

import csv
import io
import numbers
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.data.array import load_array, load_labelled
from ornstein.data.dataset import Dataset
from ornstein.data.labels import join_names, number_labels
from ornstein.data.spec import printable
from ornstein.files import open_regular

__all__ = ["Table", "label_column", "load_csv", "load_frame", "load_table", "name_columns", "read_csv"]

Table = dict[str, np.ndarray]  # columns (N,) by name: numbers, NaN if missing, or objects, None if missing

# A column y is not a label: it is more often a coordinate beside x.
LABEL_NAMES = ("label", "labels", "class", "classes", "category", "target", "cls")
MISSING = ("", "na", "n/a", "nan", "null", "none")
SEPARATORS = ",;\t"


def load_csv(path: Path, where: str, layout: str = "auto") -> Dataset:
    """Return the rows of a file of comma-, semicolon- or tab-separated values as vectors.

    The first line names the columns, unless it is all numbers.
    """
    table, notes = read_csv(path, where)
    return _load(table, printable(path.stem), where, layout, notes)


def read_csv(path: Path, where: str) -> tuple[Table, list[str]]:
    """Return the columns of a file of comma-, semicolon- or tab-separated values, and notes on how they were read."""
    try:
        with open_regular(path) as file:
            text = io.StringIO(file.read().decode("utf-8-sig"), newline="")
        unquoted = re.sub('"[^"]*"', "", text.readline())  # without quoted cells
        text.seek(0)
        reader = csv.reader(text, delimiter=max(SEPARATORS, key=unquoted.count))
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{where}: is not a CSV file in UTF-8 ({printable(str(error))}); save it as one") from None
    if not lines:
        raise ValueError(f"{where}: is empty; a table has a line of names, then rows of numbers")
    names, notes = lines[0][1], []
    if all(_is_number(cell) for cell in names):
        names, notes = [str(index) for index in range(len(names))], ["the first line is all numbers: read as a row"]
    else:
        del lines[0]
    for line, row in lines:
        if len(row) != len(names):
            raise ValueError(f"{where}: line {line} has {len(row)} values, but there are {len(names)} columns; fix it")
    columns = zip(*(row for _, row in lines), strict=True) if lines else [()] * len(names)
    return name_columns(names, [_parse_cells(column) for column in columns], where), notes


def load_frame(frame: Any, layout: str = "auto") -> Dataset:
    """Return the rows of a pandas or polars data frame as vectors."""
    names = [str(name) for name in frame.columns]
    return load_table(names, (frame[name].to_numpy() for name in frame.columns), "table", "data", layout)


def load_table(names: Sequence[str], columns: Iterable[Any], name: str, where: str, layout: str = "auto") -> Dataset:
    """Return the rows of numeric columns, each (N,), as vectors (N, D).

    A column called label, class, target or similar gives the classes, or a condition if it has fractions.
    """
    return _load(name_columns(names, columns, where), name, where, layout, [])


def name_columns(names: Sequence[str], columns: Iterable[Any], where: str) -> Table:
    """Return columns by name; ValueError if a name is repeated."""
    printed = [printable(name) for name in names]
    if repeated := sorted({name for name in printed if printed.count(name) > 1}):
        raise ValueError(f"{where}: has several columns called {join_names(repeated)}; give each its own name")
    return dict(zip(printed, map(_normalize, columns), strict=True))


def label_column(table: Table) -> str | None:
    """Return the name of the label column, None if there is none."""
    candidates = [name for name in table if name.lower() in LABEL_NAMES]
    return min(candidates, key=lambda name: LABEL_NAMES.index(name.lower()), default=None)


def _load(table: Table, name: str, where: str, layout: str, notes: list[str]) -> Dataset:
    label = label_column(table)
    target = table.pop(label) if label is not None else None
    if text_columns := [column for column, values in table.items() if values.dtype.kind == "O"]:
        raise ValueError(f"{where}: not all columns are numbers: {join_names(text_columns)}; leave those out, or write "
                         "numbers in them (a column of class names must be called label)")
    if not table or not len(next(iter(table.values()))):
        raise ValueError(f"{where}: has {'no rows' if table else 'no column of numbers'}; a sample is a row of numbers")
    missing = {column: int(np.isnan(values).sum()) for column, values in table.items() if values.dtype.kind == "f"}
    if incomplete := [f"{column} ({count})" for column, count in missing.items() if count]:
        raise ValueError(f"{where}: values are missing from its columns: {join_names(incomplete)}; fill them in, or "
                         "leave those rows out")
    values = np.stack(list(table.values()), axis=1)
    all_notes = [f"vectors of the columns {join_names(list(table))}", *notes]
    whole_columns = [column.dtype.kind in "biu" and abs(column).max() <= 2**53 for column in table.values()]
    has_names = list(table) != list(map(str, range(len(table))))  # rather than numbers for unnamed columns
    options: dict[str, Any] = {"layout": layout, "name": name, "where": where,
                               "columns": np.array(list(table)) if has_names and layout in ("auto", "V") else None,
                               "whole_columns": whole_columns if values.dtype.kind == "f" else ()}
    if target is None:
        return load_labelled(values, None, all_notes, **options)
    if target.dtype.kind == "f" and np.mod(target[np.isfinite(target)], 1).any():
        data = load_array(values, conditions=target[:, None], classes=np.array([label]), **options)
        data.notes[:0] = [*all_notes, f"column {label!r} has fractions: the vectors are conditioned on it"]
        return data
    all_notes.append(f"labels are in column {label!r}")
    return load_labelled(values, number_labels(target, None, where), all_notes, **options)


def _normalize(column: Any) -> np.ndarray:
    """Return a column as numbers, NaN if missing, or as objects if it holds anything else."""
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        return array
    values = [None if _is_missing(value) else value for value in array.tolist()]
    if array.dtype.kind == "O" and all(value is None or isinstance(value, numbers.Real) for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.array([value if value is None or isinstance(value, str) else str(value) for value in values],
                    dtype=object)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _parse_cells(cells: Sequence[str]) -> np.ndarray:
    """Return the cells of a column as whole numbers, floats, booleans or text, whichever fits first."""
    present = [cell for cell in cells if cell.lower() not in MISSING]
    for dtype in (np.int64, np.float64) if present or not cells else (np.float64,):
        try:
            if dtype is np.float64:
                return np.array([np.nan if cell.lower() in MISSING else float(cell) for cell in cells])
            return np.array([int(cell) for cell in cells], dtype)
        except (ValueError, OverflowError):
            continue
    if present and {cell.lower() for cell in cells} <= {"true", "false"}:
        return np.array([cell.lower() == "true" for cell in cells])
    return np.array([None if cell.lower() in MISSING else cell for cell in cells], dtype=object)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
