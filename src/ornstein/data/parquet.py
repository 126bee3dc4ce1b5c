"""Parquet files of pictures or of lists of numbers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.data import cache
from ornstein.data.array import load_numbered
from ornstein.data.columns import Columns, choose_columns, dense, is_plain
from ornstein.data.corpus import Corpus, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import number_labels
from ornstein.data.pictures import Reading
from ornstein.data.process import PerProcess
from ornstein.data.spec import printable
from ornstein.data.table import Table, by_name, load_table
from ornstein.files import open_regular

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["load_parquet", "need_pyarrow", "read_parquet"]

GROUPS = 4  # row groups of pictures that stay in memory


def load_parquet(paths: Sequence[Path], name: str, where: str, *, layout: str, reading: Reading) -> Dataset:
    """Return the set in parquet files of one schema, their rows one after the other."""
    need_pyarrow(where)
    files = [_opened(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        if not file.schema_arrow.equals(files[0].schema_arrow):
            raise ValueError(f"{printable(str(path))}: has other columns than {printable(str(paths[0]))}; "
                             "read them one by one")
    if is_plain(schema := files[0].schema_arrow):
        return load_table(schema.names, [_column(files, one, where).to_numpy() for one in schema.names], name, where,
                          layout)
    columns = choose_columns(files[0].schema_arrow, where)
    if not sum(file.metadata.num_rows for file in files):
        raise ValueError(f"{where}: holds 0 rows; at least 1 is needed")
    labels = None if columns.label is None else number_labels(
        _column(files, columns.label, where).to_pylist(), columns.classes, where)
    said = [f"samples are column {columns.samples!r}" + (f", labels column {columns.label!r}" if columns.label else ""),
            *columns.notes]
    if not columns.pictures:
        return _arrays(files, columns, labels, name, where, layout, said)
    table = _Pictures(paths, files, columns.samples)
    numbers, classes = labels or (np.full(len(table), -1, np.int64), ())
    listing = ["parquet", columns.samples, [cache.file_facts(path) for path in paths]]
    identity = [[path.name, path.stat().st_size] for path in paths]
    return load_corpus(Corpus(name, where, table, table.read, numbers, classes, listing, identity, {}, said),
                       reading)


def read_parquet(path: Path, where: str) -> Table:
    """The columns of a parquet file by name; lists of numbers as one array (N, ...), NaN where one is missing."""
    need_pyarrow(where)
    file = _opened(path)
    schema = file.schema_arrow
    chosen = None if is_plain(schema) else choose_columns(schema, where)
    if chosen is not None and chosen.pictures:
        raise ValueError(f"{where}: column {chosen.samples!r} holds pictures; save them as picture files")
    lists = set[str]() if chosen is None else {chosen.samples}
    table = by_name(schema.names, (() if name in lists else _column([file], name, where).to_numpy()
                                   for name in schema.names), where)
    return table | {name: dense(_column([file], name, where), f"{where}: column {name!r}", gaps=True).astype(np.float64)
                    for name in lists}


def need_pyarrow(where: str) -> None:
    """Raise ModuleNotFoundError, which names the extra, where parquet files can be neither read nor written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{where}: parquet files need pyarrow: pip install "ornstein[parquet]"') from error


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        open_regular(path).close()
        # Not mapped: a map of a file that is cut meanwhile kills the process.
        return pq.ParquetFile(path, memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{printable(str(path))}: is broken or cut short, or no parquet file "
                         f"({printable(str(error))}); fetch it again") from error


def _arrays(files: list[Any], columns: Columns, labels: tuple[np.ndarray, tuple[str, ...]] | None, name: str,
            where: str, layout: str, said: list[str]) -> Dataset:
    values = dense(_column(files, columns.samples, where), f"{where}: column {columns.samples!r}")
    conditions = None
    if columns.conditions:
        column = _column(files, columns.conditions, where)
        conditions = dense(column, f"{where}: column {columns.conditions!r}").astype(np.float64)
    return load_numbered(values, labels, said, conditions=conditions, layout=layout, name=name, where=where)


def _column(files: list[Any], name: str, where: str) -> pa.ChunkedArray:
    import pyarrow as pa

    try:
        return pa.chunked_array([chunk for file in files for chunk in file.read(columns=[name]).column(0).chunks],
                                files[0].schema_arrow.field(name).type)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{where}: is broken or cut short ({printable(str(error))}); fetch it again") from error


class _Pictures(Sequence[str]):
    """Bytes of the pictures in a column; as a sequence, the names of its rows."""

    def __init__(self, paths: Sequence[Path], files: list[Any], column: str) -> None:
        self.paths = paths
        self.groups = [(file, group) for file, opened in enumerate(files) for group in range(opened.num_row_groups)]
        counts = [files[file].metadata.row_group(group).num_rows for file, group in self.groups]
        self.starts = np.cumsum([0, *counts])
        self.firsts = np.cumsum([0, *(file.metadata.num_rows for file in files)])
        facts = [cache.file_facts(path) for path in paths]
        self._tables = PerProcess(functools.partial(_Tables, paths, facts, column))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: Any) -> Any:
        file = int(np.searchsorted(self.firsts, row, side="right")) - 1
        return f"{printable(self.paths[file].name)} row {row - self.firsts[file]}"

    def read(self, rows: np.ndarray) -> list[bytes | Exception]:
        """Return the bytes of a few rows."""
        import pyarrow as pa

        contents: list[bytes | Exception] = [ValueError("has no bytes")] * len(rows)
        groups = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(groups):
            places = np.flatnonzero(groups == number)
            column = self._tables()(*self.groups[number])
            taken = column.take(pa.array(rows[places] - self.starts[number])).to_pylist()
            for place, one in zip(places, taken, strict=True):
                if one is not None:
                    contents[place] = one
        return contents


class _Tables:
    """The open files of one process, with the row groups that it has read last."""

    def __init__(self, paths: Sequence[Path], facts: list[list[Any]], column: str) -> None:
        self.paths, self.column = paths, column
        self.files = [_opened(path) for path in paths]
        for path, known in zip(paths, facts, strict=True):
            if cache.file_facts(path) != known:
                raise ValueError(f"{printable(str(path))}: has changed since it was opened; start again")
        self._lock = threading.Lock()
        self._group = functools.lru_cache(GROUPS)(self._read)

    def __call__(self, file: int, group: int) -> pa.Array:
        """Return a row group of a file."""
        with self._lock:  # a parquet file has one place to read at
            return self._group(file, group)

    def _read(self, file: int, group: int) -> pa.Array:
        import pyarrow as pa

        try:
            column = self.files[file].read_row_group(group, columns=[self.column]).column(0).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{printable(str(self.paths[file]))}: row group {group} is broken "
                             f"({printable(str(error))}); fetch the file again") from error
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        return column.field("bytes") if pa.types.is_struct(column.type) else column
