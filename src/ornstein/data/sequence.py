"""Anything with len() and items: lists of arrays, data sets of torch, and those of the `datasets` package."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ornstein.data.array import load_array, load_numbered
from ornstein.data.columns import ARRAYS, CONDITIONS, LABELS, PICTURES, choose_columns, is_plain
from ornstein.data.corpus import Corpus, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import number_labels
from ornstein.data.pictures import Reading, header, reason
from ornstein.data.spec import printable
from ornstein.data.table import load_table

__all__ = ["is_sequence", "load_hub", "load_sequence", "numbers"]


def numbers(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return an array or tensor as an array."""
    if isinstance(array, np.ndarray):
        return array
    # numpy has no bfloat16; every bfloat16 is a float32.
    return (array.float() if array.dtype == torch.bfloat16 else array).detach().cpu().numpy()


def is_sequence(source: object) -> bool:
    """Whether a source has a length and items by number."""
    return hasattr(source, "__len__") and hasattr(source, "__getitem__") and not isinstance(source, str | Mapping)


def load_sequence(source: Any, *, layout: str, reading: Reading, name: str = "data") -> Dataset:
    """Return the samples of a sequence, or of a `datasets.Dataset`.

    Its items are pictures of Pillow's, arrays or tensors of one shape, pairs of one of these and a label, or tables
    with an entry image, img, x or such and perhaps label, or conditions: the same for the same number, each time.
    """
    module = sys.modules.get("datasets")
    if module is not None and isinstance(source, module.Dataset):
        return _load_table(source, name, layout, reading)
    count = len(source)
    if count == 0:
        raise ValueError(f"{name}: holds 0 samples; at least 1 is needed")
    first = _take(source, 0, name)[0]
    classes = getattr(source, "classes", None)
    known = tuple(classes) if isinstance(classes, list | tuple) and all(isinstance(c, str) for c in classes) else None
    if not isinstance(first, np.ndarray):
        return _pictures(source, name, known, reading)
    items = [_take(source, row, name) for row in range(count)]
    arrays = []
    for row, (x, _, _) in enumerate(items):
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{name}: item {row} is {type(x).__name__} and item 0 an array; items must be alike")
        arrays.append(x)
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise ValueError(f"{name}: its {count} arrays have {len(shapes)} different shapes, {shapes[0]} to "
                         f"{shapes[-1]}, or different types; cut or pad them to one")
    labels = number_labels([label for _, label, _ in items], known, name)
    conditions = [vector for _, _, vector in items]
    if any(vector is not None for vector in conditions):
        return load_array(np.stack(arrays), conditions=_rows(conditions, name), layout=layout, name=name, where=name)
    return load_numbered(np.stack(arrays), labels, layout=layout, name=name, where=name)


def load_hub(source: str, *, layout: str, reading: Reading) -> Dataset:
    """Return the set "hf:NAME" or "hf:NAME:SPLIT" (by default train) of the Hugging Face Hub; no code of it is run."""
    name, _, split = source.removeprefix("hf:").partition(":")
    if not name:
        raise ValueError(f"data {source!r} names no set; give hf:NAME or hf:NAME:SPLIT")
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{source}: sets of the Hub need datasets: pip install "ornstein[hub]"') from error
    # Its retries say in a dozen lines what we say in one.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        table = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # connection, name, split and licence fail in a dozen types
        first = printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise ConnectionError(f"{source}: cannot be had from the Hub ({first}); check the name, the split and the "
                              "network") from error
    return load_sequence(table, layout=layout, reading=reading, name=printable(name.rpartition("/")[2]))


def _take(source: Any, row: int, name: str) -> tuple[Any, Any, Any]:
    """Picture or array, label, conditions."""
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
        x = numbers(x)
    if isinstance(x, list) and x and all(isinstance(value, int | float) for value in x):
        x = np.array(x)
    if not isinstance(x, np.ndarray | Image.Image) or (isinstance(x, np.ndarray) and x.ndim == 0):
        raise TypeError(f"{name}: item {row} is {type(x).__name__}; items must be pictures, arrays or tensors, "
                        "pairs of one and a label, or tables of both")
    return x, label, conditions


def _rows(conditions: Sequence[Any], name: str) -> np.ndarray:
    vectors = [None if one is None else np.atleast_1d(np.asarray(
        numbers(one) if isinstance(one, torch.Tensor) else one, np.float64)) for one in conditions]
    shapes = {one.shape for one in vectors if one is not None}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1:
        raise ValueError(f"{name}: conditions must be vectors of one length; some have others")
    return np.stack([np.full(shape, np.nan) if one is None else one for one in vectors])


def _pictures(source: Any, name: str, known: tuple[str, ...] | None, reading: Reading) -> Dataset:
    labels: list[Any] = []
    looked: list[tuple[int, int, bool, bool, bool] | str] = []
    for row in range(len(source)):
        x, label, _ = _take(source, row, name)
        if isinstance(x, np.ndarray):
            raise TypeError(f"{name}: item {row} is an array and item 0 a picture; items must be alike")
        labels.append(label)
        try:
            looked.append(header(x))
        except Exception as error:  # Pillow raises nearly any type for a broken file; the reason is reported
            looked.append(reason(error))
    indices, classes = number_labels(labels, known, name)
    corpus = Corpus(name, name, [f"item {row}" for row in range(len(source))],
                    functools.partial(_items, source, name), indices, classes, looked=looked)
    return load_corpus(corpus, reading)


def _load_table(table: Any, name: str, layout: str, reading: Reading) -> Dataset:
    schema = table.features.arrow_schema
    if is_plain(schema):
        return load_table(schema.names, [table.with_format(None)[one][:] for one in schema.names], name, name, layout)
    columns = choose_columns(schema, name)
    labels = None
    if columns.label:
        labels = number_labels(table.with_format(None)[columns.label][:], columns.classes, name)
    if columns.pictures:
        import datasets

        # The bytes as they are, so that every source decodes them the same way.
        plain = table.select_columns([columns.samples]).with_format(None)
        if isinstance(table.features[columns.samples], datasets.Image):
            plain = plain.cast_column(columns.samples, datasets.Image(decode=False))

        read = functools.partial(_cells, plain, columns.samples)
        indices, classes = labels or (np.full(len(table), -1, np.int64), ())
        return load_corpus(Corpus(name, name, [f"row {row}" for row in range(len(table))], read, indices, classes,
                                  ["datasets", table._fingerprint], [table._fingerprint], {}, list(columns.notes)),
                           reading)
    plain = table.with_format("numpy")
    values = np.asarray(plain[columns.samples][:])
    conditions = np.asarray(plain[columns.conditions][:], dtype=np.float64) if columns.conditions else None
    return load_numbered(values, labels, columns.notes, conditions=conditions, layout=layout, name=name, where=name)


def _items(source: Any, name: str, rows: np.ndarray) -> list[Any]:
    return [_take(source, int(row), name)[0] for row in rows]


def _cells(table: Any, column: str, rows: np.ndarray) -> list[Any]:
    return [_bytes(one) for one in table[rows.tolist()][column]]


def _bytes(one: Any) -> Any:
    if isinstance(one, Mapping):
        one = one["bytes"] if one.get("bytes") is not None else Path(one["path"]) if one.get("path") else None
    return ValueError("has no bytes") if one is None else one
