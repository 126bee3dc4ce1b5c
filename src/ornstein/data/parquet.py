"""Parquet files of pictures or of lists of numbers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.data import cache
from ornstein.data.array import load_labelled
from ornstein.data.columns import Columns, choose_columns, is_numeric_table, to_dense
from ornstein.data.corpus import Corpus, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import number_labels
from ornstein.data.per_process import PerProcess
from ornstein.data.pictures import ReadOptions
from ornstein.data.spec import printable
from ornstein.data.table import Table, load_table, name_columns
from ornstein.files import open_regular

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["load_parquet", "need_pyarrow", "read_parquet"]

CACHED_GROUPS = 4  # row groups of pictures that stay in memory


def load_parquet(paths: Sequence[Path], name: str, where: str, *, layout: str, options: ReadOptions) -> Dataset:
    """Return the rows of parquet files with the same schema as one set."""
    need_pyarrow(where)
    files = [_open_file(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        if not file.schema_arrow.equals(files[0].schema_arrow):
            raise ValueError(f"{printable(str(path))}: has other columns than {printable(str(paths[0]))}; "
                             "load them separately")
    if is_numeric_table(schema := files[0].schema_arrow):
        table = [_read_column(files, column, where).to_numpy() for column in schema.names]
        return load_table(schema.names, table, name, where, layout)
    columns = choose_columns(files[0].schema_arrow, where)
    if not sum(file.metadata.num_rows for file in files):
        raise ValueError(f"{where}: holds 0 rows; at least 1 is needed")
    labels = None if columns.label is None else number_labels(
        _read_column(files, columns.label, where).to_pylist(), columns.classes, where)
    label_note = f", labels column {columns.label!r}" if columns.label else ""
    notes = [f"samples are column {columns.samples!r}{label_note}", *columns.notes]
    if not columns.pictures:
        return _load_arrays(files, columns, labels, name, where, layout, notes)
    pictures = _PictureColumn(paths, files, columns.samples)
    indices, classes = labels or (np.full(len(pictures), -1, np.int64), ())
    listing = ["parquet", columns.samples, [cache.file_state(path) for path in paths]]
    identity = [[path.name, path.stat().st_size] for path in paths]
    corpus = Corpus(name, where, pictures, pictures.read, indices, classes, listing=listing, identity=identity,
                    notes=notes)
    return load_corpus(corpus, options)


def read_parquet(path: Path, where: str) -> Table:
    """Return the columns of a parquet file by name; lists of numbers as one array (N, ...), NaN if missing."""
    need_pyarrow(where)
    file = _open_file(path)
    schema = file.schema_arrow
    chosen = None if is_numeric_table(schema) else choose_columns(schema, where)
    if chosen is not None and chosen.pictures:
        raise ValueError(f"{where}: column {chosen.samples!r} holds pictures; save them as picture files")
    list_columns = set[str]() if chosen is None else {chosen.samples}
    columns = (() if name in list_columns else _read_column([file], name, where).to_numpy() for name in schema.names)
    table = name_columns(schema.names, columns, where)
    arrays = {name: to_dense(_read_column([file], name, where), f"{where}: column {name!r}", allow_missing=True)
              for name in list_columns}
    return table | {name: array.astype(np.float64) for name, array in arrays.items()}


def need_pyarrow(where: str) -> None:
    """Raise ModuleNotFoundError, naming the extra, if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{where}: parquet files need pyarrow: pip install "ornstein[parquet]"') from error


def _open_file(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        open_regular(path).close()
        # Not mapped: truncating a mapped file kills the process.
        return pq.ParquetFile(path, memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{printable(str(path))}: is broken, truncated or not a parquet file "
                         f"({printable(str(error))}); fetch it again") from error


def _load_arrays(files: list[Any], columns: Columns, labels: tuple[np.ndarray, tuple[str, ...]] | None, name: str,
                 where: str, layout: str, notes: list[str]) -> Dataset:
    values = to_dense(_read_column(files, columns.samples, where), f"{where}: column {columns.samples!r}")
    conditions = None
    if columns.conditions:
        column = _read_column(files, columns.conditions, where)
        conditions = to_dense(column, f"{where}: column {columns.conditions!r}").astype(np.float64)
    return load_labelled(values, labels, notes, conditions=conditions, layout=layout, name=name, where=where)


def _read_column(files: list[Any], name: str, where: str) -> pa.ChunkedArray:
    import pyarrow as pa

    try:
        return pa.chunked_array([chunk for file in files for chunk in file.read(columns=[name]).column(0).chunks],
                                files[0].schema_arrow.field(name).type)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{where}: is broken or truncated ({printable(str(error))}); fetch it again") from error


class _PictureColumn(Sequence[str]):
    """The encoded pictures in a column; as a sequence, the names of its rows."""

    def __init__(self, paths: Sequence[Path], files: list[Any], column: str) -> None:
        self._paths = paths
        self._groups = [(file, group) for file, opened in enumerate(files) for group in range(opened.num_row_groups)]
        counts = [files[file].metadata.row_group(group).num_rows for file, group in self._groups]
        self._group_starts = np.cumsum([0, *counts])
        self._file_starts = np.cumsum([0, *(file.metadata.num_rows for file in files)])
        states = [cache.file_state(path) for path in paths]
        self._row_groups = PerProcess(functools.partial(_RowGroups, paths, states, column))

    def __len__(self) -> int:
        return int(self._group_starts[-1])

    def __getitem__(self, row: Any) -> Any:
        file = int(np.searchsorted(self._file_starts, row, side="right")) - 1
        return f"{printable(self._paths[file].name)} row {row - self._file_starts[file]}"

    def read(self, rows: np.ndarray) -> list[bytes | Exception]:
        """Return the encoded pictures of the given rows."""
        import pyarrow as pa

        contents: list[bytes | Exception] = [ValueError("has no bytes")] * len(rows)
        group_of = np.searchsorted(self._group_starts, rows, side="right") - 1
        for index in np.unique(group_of):
            positions = np.flatnonzero(group_of == index)
            column = self._row_groups()(*self._groups[index])
            group_contents = column.take(pa.array(rows[positions] - self._group_starts[index])).to_pylist()
            for position, content in zip(positions, group_contents, strict=True):
                if content is not None:
                    contents[position] = content
        return contents


class _RowGroups:
    """The open files of one process, with its most recently read row groups."""

    def __init__(self, paths: Sequence[Path], states: list[list[Any]], column: str) -> None:
        self._paths, self._column = paths, column
        self._files = [_open_file(path) for path in paths]
        for path, state in zip(paths, states, strict=True):
            if cache.file_state(path) != state:
                raise ValueError(f"{printable(str(path))}: changed since it was opened; start again")
        self._lock = threading.Lock()
        self._cached_read = functools.lru_cache(CACHED_GROUPS)(self._read)

    def __call__(self, file: int, group: int) -> pa.Array:
        """Return a row group of a file."""
        with self._lock:  # a parquet file has only one read position
            return self._cached_read(file, group)

    def _read(self, file: int, group: int) -> pa.Array:
        import pyarrow as pa

        try:
            column = self._files[file].read_row_group(group, columns=[self._column]).column(0).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{printable(str(self._paths[file]))}: row group {group} is broken "
                             f"({printable(str(error))}); fetch the file again") from error
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        return column.field("bytes") if pa.types.is_struct(column.type) else column
