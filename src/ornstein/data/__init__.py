"""Data: built-in sets, pictures and arrays from files, shards, tables and objects, all as one `Dataset`."""

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
from ornstein.data.labels import said
from ornstein.data.parquet import load_parquet
from ornstein.data.pictures import Reading, read_picture
from ornstein.data.places import ALONE, braced, called, files_of, is_pattern
from ornstein.data.remote import RemoteShard, is_remote
from ornstein.data.sequence import is_sequence, load_hub, load_sequence, numbers
from ornstein.data.shards import LocalShard, load_shards
from ornstein.data.spec import LAYOUTS, DataSpec, printable
from ornstein.data.table import load_csv, load_frame
from ornstein.data.toys import load_mixture, load_moons
from ornstein.data.web import check_address, shown

__all__ = ["DataSpec", "Dataset", "load_data", "may_be_pictures", "named", "path_of", "read_picture", "sources"]

Array = np.ndarray | torch.Tensor

SOURCES: dict[str, tuple[str, Callable[[], Dataset]]] = {
    "digits": ("1,797 handwritten digits, 8x8 grey, 10 classes", load_digits),
    "moons": ("8,000 points on two interleaved half circles, 2 classes", load_moons),
    "mixture": ("8,000 points from 8 Gaussians on a circle, 8 classes", load_mixture),
}


def sources() -> dict[str, str]:
    """Return the built-in sets: name to a description of one line."""
    return {name: line for name, (line, _) in SOURCES.items()}


def named(source: Any) -> str | list[str] | None:
    """Return a source as text that names it, or a list of such texts for several files; None for an object."""
    if isinstance(source, list | tuple) and source and all(isinstance(one, str | Path) for one in source):
        return [str(one) for one in source]
    return str(source) if isinstance(source, str | Path) else None


def may_be_pictures(source: Any) -> bool:
    """Whether a source may be picture files, which can be read at any size."""
    names = named(source)
    return isinstance(names, list) or (names is not None and names not in SOURCES
                                       and Path(names).suffix not in ALONE)


def path_of(source: Any) -> str | list[str] | None:
    """Return the absolute path (or pattern) of a source that lies on this machine, or those of several files; None for
    any other."""
    names = named(source)
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
        source: the name of a built-in set (which wins over a path); a folder of pictures; a .npy, .npz or .csv file;
            pictures, .parquet or .tar files as a list of paths, a glob, or with a range {000..009}, the last two also
            as a folder, .tar also at http(s); a .txt file with the path of a picture a line; a TIFF file of several
            pages; "hf:NAME[:SPLIT]"; an array or tensor of samples; a pair of samples and labels, or of samples and
            conditions (fractions, or more columns than one); a table of pandas or polars; or anything with len() and
            items: pictures, arrays, pairs with a label, tables of one sample.
        size: side of square pictures in pixels, or width x height as in "48x32"; picture files are resized to it,
            other data must have it already. None keeps the one shape that picture files have, their shorter side
            at most 64 pixels, else makes squares.
        fit: how picture files of another shape become this one: "cut" to their middle, "pad" with white, "stretch".
        alpha: whether the transparency of picture files is learnt, as a fourth channel; else they are laid on white.
        depth: bits of a grey value that are kept of picture files, 8 or 16.
        classes: None keeps labels where there are any, True demands them, False drops them and vector conditions.
        layout: the axes of one sample of an array: V; L, CL, LC; HW, CHW, HWC; DHW, CDHW, DHWC; "auto" reads them from
            the shape and says how in a note.
        reader: of picture files: "cache" decodes once, "stream" each time, "auto" chooses by the free disk.

    Raises:
        FileNotFoundError: a path that does not exist.
        ModuleNotFoundError: a source that needs a package which is not installed.
        TypeError: a source of another type.
        ValueError: an unknown name, data that cannot be used, a size that it has not, or labels that it lacks.
    """
    if classes not in (None, True, False):
        raise ValueError(f"classes is {classes!r}; it must be True, False or None")
    require("layout", layout, ["auto", *(word for group in LAYOUTS.values() for word in group)])
    data = _load(source, layout, Reading(size, reader, fit, alpha, depth))
    shape = data.spec.shape
    if size is not None and shape[1:] != require_size("size", size)[::-1]:
        raise ValueError(f"size {size} cannot be had: data {data.spec.name!r} has samples of shape {shape}; "
                         "only picture files are resized")
    if layout not in ("auto", data.spec.layout):
        raise ValueError(f"layout {layout!r} cannot be had: data {data.spec.name!r} are {data.spec.layout}; "
                         "only arrays have a layout to choose")
    for name, value, default in (("fit", fit, "cut"), ("alpha", alpha, False), ("depth", depth, 8)):
        if value != default and data.names is None:
            raise ValueError(f"{name} {value!r} does not apply: data {data.spec.name!r} are not picture files; leave "
                             "it out")
    if reader == "stream" and not data.streamed:
        raise ValueError(f"reader 'stream' cannot be had: data {data.spec.name!r} are no picture files; leave it out")
    if classes and not data.spec.classes:
        raise ValueError(f"classes are asked for, but data {data.spec.name!r} has no labels; leave classes out")
    if classes is False and (data.spec.classes or data.spec.conditions):
        data.notes.append("the labels were dropped" if data.spec.classes else "the conditions were dropped")
        data.labels, data.conditions = np.full_like(data.labels, -1), None
        data.spec = replace(data.spec, classes=(), conditions=(), empty=())
    data.notes[:0] = said(data.spec, data.labels, data.conditions)
    return data


def _load(source: Any, layout: str, reading: Reading) -> Dataset:
    options: dict[str, Any] = {"layout": layout, "reading": reading}
    if isinstance(names := named(source), list):
        return _load_path(names, options)
    if isinstance(source, str | Path):
        if isinstance(source, str) and source in SOURCES:
            return SOURCES[source][1]()
        if isinstance(source, str) and source.startswith("hf:"):
            return load_hub(source, **options)
        if isinstance(source, str) and is_remote(source):
            return _load_remote(source, options)
        return _load_path(source, options)
    if isinstance(source, Array):
        return load_array(numbers(source), layout=layout)
    if isinstance(source, tuple):
        return _load_pair(source, layout)
    kind = type(source).__name__
    if hasattr(source, "to_numpy"):  # of pandas and its like
        if hasattr(source, "columns"):
            return load_frame(source, layout)
        raise TypeError(f"data is {kind}; give its numbers as an array, data.to_numpy(), or a table of several columns")
    if isinstance(source, Mapping):
        raise TypeError(f"data is {kind}; give one of its arrays, data['x'], or with labels a pair, (data['x'], "
                        "data['labels']); of an .npz file its path")
    if is_sequence(source):
        return load_sequence(source, **options)
    raise TypeError(f"data is {kind}; it must be a name, a path, an array or tensor, a pair of samples and labels, or "
                    "have len() and items")


def _load_pair(source: tuple[Any, ...], layout: str) -> Dataset:
    if len(source) not in (1, 2) or not isinstance(source[0], Array) or not isinstance(source[-1], Array | list):
        raise TypeError("data is tuple; it must be a pair of samples and labels, or conditions, as arrays or tensors")
    values, *beside = source
    labels = [np.array(one, dtype=object) if isinstance(one, list) and np.ndim(one) == 1 else
              np.asarray(one) if isinstance(one, list) else numbers(one) for one in beside]
    if labels and labels[0].ndim == 1 and labels[0].dtype.kind == "f" and np.mod(
            labels[0][np.isfinite(labels[0])], 1).any():
        data = load_array(numbers(values), conditions=labels[0], layout=layout)
        data.notes.append("the second array has fractions: read as numbers to condition on, not as classes")
        return data
    return load_array(numbers(values), *labels, layout=layout)


def _load_remote(source: str, options: dict[str, Any]) -> Dataset:
    addresses = [check_address(address) for address in braced(source)]
    if not all(urlsplit(address).path.endswith(".tar") for address in addresses):
        raise ValueError(f"data {shown(source)!r} is no address of .tar shards; fetch other files to a disk")
    shards = [RemoteShard(address) for address in addresses]
    where = shards[0].name if len(shards) == 1 else f"{shards[0].name} and {len(shards) - 1} more"
    return load_shards(shards, printable(Path(urlsplit(addresses[0]).path).stem), where, **options)


def _load_path(source: str | Path | list[str], options: dict[str, Any]) -> Dataset:
    if isinstance(source, list):
        kind, paths = files_of(source)
        return _load_files(kind, paths, paths[0].parent.resolve().name, called(source), options)
    # As text: a Path raises for a name that is too long and for the home of a user who is not there.
    path, text = Path(os.path.expanduser(source)), str(source)
    if isinstance(source, str) and not (source and (os.path.exists(path) or path.suffix or "/" in source
                                                    or os.sep in source or is_pattern(source))):
        try:
            require("data", source, SOURCES)
        except ValueError as error:
            raise ValueError(f"{printable(str(error))}; and no such path exists") from error
    kind, paths = files_of(source)
    where = shorten(text)
    name = printable(path.resolve().name if os.path.isdir(path) else
                     path.stem if os.path.exists(path) else path.parent.name)
    if kind in (".npy", ".npz"):
        return load_array_file(paths[0], options["layout"])
    if kind in (".csv", ".tsv"):
        return load_csv(paths[0], where, options["layout"])
    if kind == "folder":
        return load_folder(paths[0], options["reading"])
    return _load_files(kind, paths, name, where, options)


def _load_files(kind: str, paths: list[Path], name: str, where: str, options: dict[str, Any]) -> Dataset:
    """The set in files of one kind."""
    name = printable(name)
    if kind == "pictures":
        return load_files(paths, where, options["reading"])
    if missing := [one for one in paths if not os.path.exists(one)]:
        raise FileNotFoundError(f"{shorten(str(missing[0]))}: there is no such file")
    if kind == ".parquet":
        return load_parquet(paths, name or "parquet", where, **options)
    return load_shards([LocalShard(one) for one in paths], name or "shards", where, **options)
