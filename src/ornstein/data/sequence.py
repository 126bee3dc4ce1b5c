"""Sources with len() and items: lists of arrays, data sets of torch and of the `datasets` package."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ornstein.data.array import load_array, load_labelled
from ornstein.data.columns import ARRAYS, CONDITIONS, LABELS, PICTURES, choose_columns, is_numeric_table
from ornstein.data.corpus import Corpus, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import number_labels
from ornstein.data.pictures import Header, ReadOptions, error_reason, read_header
from ornstein.data.spec import printable
from ornstein.data.table import load_table

__all__ = ["is_sequence", "load_hub", "load_sequence", "to_numpy"]


def to_numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return an array or tensor as a NumPy array."""
    if isinstance(array, np.ndarray):
        return array
    # NumPy has no bfloat16; float32 holds every bfloat16.
    return (array.float() if array.dtype == torch.bfloat16 else array).detach().cpu().numpy()


def is_sequence(source: object) -> bool:
    """Whether a source has a length and indexed items."""
    return hasattr(source, "__len__") and hasattr(source, "__getitem__") and not isinstance(source, str | Mapping)


def load_sequence(source: Any, *, layout: str, options: ReadOptions, name: str = "data") -> Dataset:
    """Return the samples of a sequence, or of a `datasets.Dataset`.

    Items are Pillow images, arrays or tensors of one shape, pairs of one of these and a label, or mappings with an
    entry such as image, img or x and optionally label or conditions. Reading an item again must give the same item.
    """
    module = sys.modules.get("datasets")
    if module is not None and isinstance(source, module.Dataset):
        return _load_table(source, name, layout, options)
    count = len(source)
    if count == 0:
        raise ValueError(f"{name}: holds 0 samples; at least 1 is needed")
    first = _parse_item(source, 0, name)[0]
    declared = getattr(source, "classes", None)
    class_names = None
    if isinstance(declared, list | tuple) and all(isinstance(entry, str) for entry in declared):
        class_names = tuple(declared)
    if not isinstance(first, np.ndarray):
        return _load_pictures(source, name, class_names, options)
    items = [_parse_item(source, row, name) for row in range(count)]
    arrays = []
    for row, (x, _, _) in enumerate(items):
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{name}: item {row} is {type(x).__name__}, but item 0 is an array; items must be alike")
        arrays.append(x)
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise ValueError(f"{name}: its {count} arrays have {len(shapes)} different shapes, {shapes[0]} to "
                         f"{shapes[-1]}, or different types; cut or pad them to one")
    labels = number_labels([label for _, label, _ in items], class_names, name)
    conditions = [vector for _, _, vector in items]
    if any(vector is not None for vector in conditions):
        return load_array(np.stack(arrays), conditions=_stack_conditions(conditions, name), layout=layout, name=name,
                          where=name)
    return load_labelled(np.stack(arrays), labels, layout=layout, name=name, where=name)


def load_hub(source: str, *, layout: str, options: ReadOptions) -> Dataset:
    """Return the set "hf:NAME" or "hf:NAME:SPLIT" (default train) of the Hugging Face Hub, without running its code."""
    name, _, split = source.removeprefix("hf:").partition(":")
    if not name:
        raise ValueError(f"data {source!r} names no data set; give hf:NAME or hf:NAME:SPLIT")
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{source}: Hub data sets need datasets: pip install "ornstein[hub]"') from error
    # Its retries log a dozen lines for what the error below says in one.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        table = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # connection, name, split and licence raise many types
        message = printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise ConnectionError(f"{source}: cannot be loaded from the Hub ({message}); check the name, the split and the "
                              "network") from error
    return load_sequence(table, layout=layout, options=options, name=printable(name.rpartition("/")[2]))


def _parse_item(source: Any, row: int, name: str) -> tuple[Any, Any, Any]:
    """Return picture or array, label and conditions of an item."""
    from PIL import Image

    item = source[row]
    x, label, conditions = item, None, None
    if isinstance(item, tuple) and len(item) in (1, 2):
        x, label = (*item, None)[:2]
    elif isinstance(item, Mapping):
        x, label, conditions = (next((item[key] for key in keys if key in item), None)
                                for keys in ((*PICTURES, *ARRAYS), LABELS, CONDITIONS))
        if x is None:
            raise TypeError(f"{name}: item {row} has {printable(', '.join(map(str, item)))}; it needs an entry such "
                            f"as {PICTURES[0]} or {ARRAYS[0]}")
    if isinstance(label, torch.Tensor | np.ndarray | np.generic):
        label = label.item() if np.ndim(label) == 0 else label
    if isinstance(x, torch.Tensor):
        x = to_numpy(x)
    if isinstance(x, list) and x and all(isinstance(value, int | float) for value in x):
        x = np.array(x)
    if not isinstance(x, np.ndarray | Image.Image) or (isinstance(x, np.ndarray) and x.ndim == 0):
        raise TypeError(f"{name}: item {row} is {type(x).__name__}; items must be pictures, arrays or tensors, "
                        "pairs of one and a label, or tables of both")
    return x, label, conditions


def _stack_conditions(conditions: Sequence[Any], name: str) -> np.ndarray:
    vectors = [None if vector is None else np.atleast_1d(np.asarray(
        to_numpy(vector) if isinstance(vector, torch.Tensor) else vector, np.float64)) for vector in conditions]
    shapes = {vector.shape for vector in vectors if vector is not None}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1:
        raise ValueError(f"{name}: conditions must be vectors of one length; some differ")
    return np.stack([np.full(shape, np.nan) if vector is None else vector for vector in vectors])


def _load_pictures(source: Any, name: str, class_names: tuple[str, ...] | None, options: ReadOptions) -> Dataset:
    labels: list[Any] = []
    headers: list[Header | str] = []
    for row in range(len(source)):
        x, label, _ = _parse_item(source, row, name)
        if isinstance(x, np.ndarray):
            raise TypeError(f"{name}: item {row} is an array, but item 0 is a picture; items must be alike")
        labels.append(label)
        try:
            headers.append(read_header(x))
        except Exception as error:  # a broken file raises nearly any type of error
            headers.append(error_reason(error))
    indices, classes = number_labels(labels, class_names, name)
    corpus = Corpus(name, name, [f"item {row}" for row in range(len(source))],
                    functools.partial(_read_items, source, name), indices, classes, headers=headers)
    return load_corpus(corpus, options)


def _load_table(table: Any, name: str, layout: str, options: ReadOptions) -> Dataset:
    schema = table.features.arrow_schema
    if is_numeric_table(schema):
        rows = table.with_format(None)
        return load_table(schema.names, [rows[column][:] for column in schema.names], name, name, layout)
    columns = choose_columns(schema, name)
    labels = None
    if columns.label:
        labels = number_labels(table.with_format(None)[columns.label][:], columns.classes, name)
    if columns.pictures:
        import datasets

        # Get the encoded bytes, so that pictures are decoded the same way for every source.
        plain = table.select_columns([columns.samples]).with_format(None)
        if isinstance(table.features[columns.samples], datasets.Image):
            plain = plain.cast_column(columns.samples, datasets.Image(decode=False))

        read = functools.partial(_read_cells, plain, columns.samples)
        indices, classes = labels or (np.full(len(table), -1, np.int64), ())
        corpus = Corpus(name, name, [f"row {row}" for row in range(len(table))], read, indices, classes,
                        listing=["datasets", table._fingerprint], identity=[table._fingerprint],
                        notes=list(columns.notes))
        return load_corpus(corpus, options)
    plain = table.with_format("numpy")
    values = np.asarray(plain[columns.samples][:])
    conditions = np.asarray(plain[columns.conditions][:], dtype=np.float64) if columns.conditions else None
    return load_labelled(values, labels, columns.notes, conditions=conditions, layout=layout, name=name, where=name)


def _read_items(source: Any, name: str, rows: np.ndarray) -> list[Any]:
    return [_parse_item(source, int(row), name)[0] for row in rows]


def _read_cells(table: Any, column: str, rows: np.ndarray) -> list[Any]:
    return [_picture_bytes(cell) for cell in table[rows.tolist()][column]]


def _picture_bytes(cell: Any) -> Any:
    if isinstance(cell, Mapping):
        cell = cell["bytes"] if cell.get("bytes") is not None else Path(cell["path"]) if cell.get("path") else None
    return ValueError("has no bytes") if cell is None else cell
