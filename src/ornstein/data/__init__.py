"""Loading of built-in sets, pictures, arrays, tables and shards, each as a `Dataset`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from ornstein.arguments import require, require_size, shorten
from ornstein.data.array import load_array, load_array_file
from ornstein.data.dataset import Dataset
from ornstein.data.digits import load_digits
from ornstein.data.folder import load_files, load_folder
from ornstein.data.labels import label_notes
from ornstein.data.parquet import load_parquet
from ornstein.data.paths import SINGLE_FILE, expand_braces, find_files, is_pattern, summarize
from ornstein.data.pictures import ReadOptions, read_picture
from ornstein.data.remote import RemoteShard, is_remote
from ornstein.data.sequence import is_sequence, load_hub, load_sequence, to_numpy
from ornstein.data.shards import LocalShard, load_shards
from ornstein.data.spec import LAYOUTS, DataSpec, printable
from ornstein.data.table import load_csv, load_frame
from ornstein.data.toys import load_mixture, load_moons
from ornstein.data.web import check_address, redact_address

__all__ = ["DataSpec", "Dataset", "load_data", "may_be_pictures", "read_picture", "source_name", "source_path",
           "sources"]

Array = np.ndarray | torch.Tensor

SOURCES: dict[str, tuple[str, Callable[[], Dataset]]] = {
    "digits": ("1,797 handwritten digits, 8x8 grey, 10 classes", load_digits),
    "moons": ("8,000 points on two interleaved half circles, 2 classes", load_moons),
    "mixture": ("8,000 points from 8 Gaussians on a circle, 8 classes", load_mixture),
}


def sources() -> dict[str, str]:
    """Return the built-in sets: name to one-line description."""
    return {name: line for name, (line, _) in SOURCES.items()}


def source_name(source: Any) -> str | list[str] | None:
    """Return the name or path of a source, or a list of several paths; None for an object in memory."""
    if isinstance(source, list | tuple) and source and all(isinstance(item, str | Path) for item in source):
        return [str(item) for item in source]
    return str(source) if isinstance(source, str | Path) else None


def may_be_pictures(source: Any) -> bool:
    """Whether a source may consist of picture files, which can be read at any size."""
    names = source_name(source)
    return isinstance(names, list) or (names is not None and names not in SOURCES
                                       and Path(names).suffix not in SINGLE_FILE)


def source_path(source: Any) -> str | list[str] | None:
    """Return the absolute path (or pattern) of a local source, or a list of them; None for any other source."""
    names = source_name(source)
    if isinstance(names, list):
        return [os.path.abspath(Path(name).expanduser()) for name in names]
    if names is None:
        return None
    if isinstance(source, str) and (source in SOURCES or source.startswith("hf:") or is_remote(source)):
        return None
    return os.path.abspath(Path(source).expanduser())


def load_data(source: Any, *, size: int | str | None = None, fit: str = "cut", alpha: bool = False, depth: int = 8,
              classes: bool | None = None, layout: str = "auto", reader: str = "auto") -> Dataset:
    """Return the data of a source.

    Args:
        source: the name of a built-in set (which takes precedence over a path); a folder of pictures; a .npy, .npz or
            .csv file; pictures, .parquet or .tar files as a list of paths, a glob or a range {000..009}, the last two
            also as a folder, .tar also at http(s); a .txt file with one picture path per line; a TIFF file with several
            pages; "hf:NAME[:SPLIT]"; an array or tensor of samples; a pair of samples and labels, or of samples and
            conditions (fractions, or several columns); a pandas or polars table; or anything with len() and items:
            pictures, arrays, pairs with a label, mappings of one sample.
        size: side of square pictures in pixels, or width x height as in "48x32"; picture files are resized to it,
            other data must have it already. None keeps the common shape of picture files, with a shorter side of at
            most 64 pixels, or else makes squares.
        fit: how picture files of another shape are fitted: "cut" to the middle, "pad" with white, or "stretch".
        alpha: whether the transparency of picture files is learned as a fourth channel; else it is laid on white.
        depth: bits per grey value that are kept from picture files, 8 or 16.
        classes: None keeps labels if there are any, True requires them, False drops them and vector conditions.
        layout: the axes of one sample of an array: V; L, CL, LC; HW, CHW, HWC; DHW, CDHW, DHWC; "auto" infers them
            from the shape and reports them in a note.
        reader: for picture files: "cache" decodes once, "stream" on each access, "auto" chooses by free disk space.

    Raises:
        FileNotFoundError: a path does not exist.
        ModuleNotFoundError: the source needs a package that is not installed.
        TypeError: the source has an unsupported type.
        ValueError: the name is unknown, or the data cannot be used or lack the requested size or labels.
    """
    if classes not in (None, True, False):
        raise ValueError(f"classes is {classes!r}; it must be True, False or None")
    require("layout", layout, ["auto", *(name for names in LAYOUTS.values() for name in names)])
    data = _load(source, layout, ReadOptions(size, reader, fit, alpha, depth))
    shape = data.spec.shape
    if size is not None and shape[1:] != require_size("size", size)[::-1]:
        raise ValueError(f"size {size} is not possible: data {data.spec.name!r} has samples of shape {shape}; "
                         "only picture files are resized")
    if layout not in ("auto", data.spec.layout):
        raise ValueError(f"layout {layout!r} is not possible: data {data.spec.name!r} are {data.spec.layout}; "
                         "only arrays have a choice of layout")
    for name, value, default in (("fit", fit, "cut"), ("alpha", alpha, False), ("depth", depth, 8)):
        if value != default and data.names is None:
            raise ValueError(f"{name} {value!r} does not apply: data {data.spec.name!r} are not picture files; leave "
                             "it out")
    if reader == "stream" and not data.streamed:
        raise ValueError(f"reader 'stream' does not apply: data {data.spec.name!r} are not picture files; leave it out")
    if classes and not data.spec.classes:
        raise ValueError(f"classes is True, but data {data.spec.name!r} has no labels; leave classes out")
    if classes is False and (data.spec.classes or data.spec.conditions):
        data.notes.append("the labels were dropped" if data.spec.classes else "the conditions were dropped")
        data.labels, data.conditions = np.full_like(data.labels, -1), None
        data.spec = replace(data.spec, classes=(), conditions=(), empty=())
    data.notes[:0] = label_notes(data.spec, data.labels, data.conditions)
    return data


def _load(source: Any, layout: str, options: ReadOptions) -> Dataset:
    if isinstance(names := source_name(source), list):
        return _load_path(names, layout, options)
    if isinstance(source, str | Path):
        if isinstance(source, str) and source in SOURCES:
            return SOURCES[source][1]()
        if isinstance(source, str) and source.startswith("hf:"):
            return load_hub(source, layout=layout, options=options)
        if isinstance(source, str) and is_remote(source):
            return _load_remote(source, layout, options)
        return _load_path(source, layout, options)
    if isinstance(source, Array):
        return load_array(to_numpy(source), layout=layout)
    if isinstance(source, tuple):
        return _load_pair(source, layout)
    type_name = type(source).__name__
    if hasattr(source, "to_numpy"):  # pandas and similar
        if hasattr(source, "columns"):
            return load_frame(source, layout)
        raise TypeError(f"data is {type_name}; pass an array, data.to_numpy(), or a table of several columns")
    if isinstance(source, Mapping):
        raise TypeError(f"data is {type_name}; pass one of its arrays, data['x'], or a pair with labels, (data['x'], "
                        "data['labels']); for an .npz file pass its path")
    if is_sequence(source):
        return load_sequence(source, layout=layout, options=options)
    raise TypeError(f"data is {type_name}; it must be a name, a path, an array or tensor, a pair of samples and "
                    "labels, or have len() and items")


def _load_pair(source: tuple[Any, ...], layout: str) -> Dataset:
    if len(source) not in (1, 2) or not isinstance(source[0], Array) or not isinstance(source[-1], Array | list):
        raise TypeError("data is tuple; it must be a pair of samples and labels, or conditions, as arrays or tensors")
    values = to_numpy(source[0])
    if len(source) == 1:
        return load_array(values, layout=layout)
    labels = source[1]
    if isinstance(labels, list):
        labels = np.array(labels, dtype=object) if np.ndim(labels) == 1 else np.asarray(labels)
    labels = to_numpy(labels)
    if labels.ndim == 1 and labels.dtype.kind == "f" and np.mod(labels[np.isfinite(labels)], 1).any():
        data = load_array(values, conditions=labels, layout=layout)
        data.notes.append("the second array has fractions: it was read as conditions, not as classes")
        return data
    return load_array(values, labels, layout=layout)


def _load_remote(source: str, layout: str, options: ReadOptions) -> Dataset:
    addresses = [check_address(address) for address in expand_braces(source)]
    if not all(urlsplit(address).path.endswith(".tar") for address in addresses):
        raise ValueError(f"data {redact_address(source)!r} is not an address of .tar shards; download other files "
                         "first")
    shards = [RemoteShard(address) for address in addresses]
    where = shards[0].name if len(shards) == 1 else f"{shards[0].name} and {len(shards) - 1} more"
    name = printable(Path(urlsplit(addresses[0]).path).stem)
    return load_shards(shards, name, where, layout=layout, options=options)


def _load_path(source: str | Path | list[str], layout: str, options: ReadOptions) -> Dataset:
    if isinstance(source, list):
        kind, paths = find_files(source)
        return _load_files(kind, paths, paths[0].parent.resolve().name, summarize(source), layout, options)
    # As text: Path raises for names that are too long and for the home of an unknown user.
    path, text = Path(os.path.expanduser(source)), str(source)
    if isinstance(source, str) and not (source and (os.path.exists(path) or path.suffix or "/" in source
                                                    or os.sep in source or is_pattern(source))):
        try:
            require("data", source, SOURCES)
        except ValueError as error:
            raise ValueError(f"{printable(str(error))}; and no such path exists") from error
    kind, paths = find_files(source)
    where = shorten(text)
    name = printable(path.resolve().name if os.path.isdir(path) else
                     path.stem if os.path.exists(path) else path.parent.name)
    if kind in (".npy", ".npz"):
        return load_array_file(paths[0], layout)
    if kind in (".csv", ".tsv"):
        return load_csv(paths[0], where, layout)
    if kind == "folder":
        return load_folder(paths[0], options)
    return _load_files(kind, paths, name, where, layout, options)


def _load_files(kind: str, paths: list[Path], name: str, where: str, layout: str, options: ReadOptions) -> Dataset:
    """Return the set in files of one kind."""
    name = printable(name)
    if kind == "pictures":
        return load_files(paths, where, options)
    if missing := [path for path in paths if not os.path.exists(path)]:
        raise FileNotFoundError(f"{shorten(str(missing[0]))}: no such file")
    if kind == ".parquet":
        return load_parquet(paths, name or "parquet", where, layout=layout, options=options)
    return load_shards([LocalShard(path) for path in paths], name or "shards", where, layout=layout, options=options)
