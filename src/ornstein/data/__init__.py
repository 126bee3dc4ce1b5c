"""Data: built-in sets, folders of pictures and arrays, all as one `Dataset`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ornstein.data.array import load_array, load_array_file
from ornstein.data.dataset import Dataset
from ornstein.data.digits import load_digits
from ornstein.data.folder import load_folder, read_picture
from ornstein.data.spec import DataSpec, printable
from ornstein.data.toys import load_mixture, load_moons
from ornstein.names import require

__all__ = ["DataSpec", "Dataset", "load_data", "read_picture", "sources"]

Array = np.ndarray | torch.Tensor

SOURCES: dict[str, tuple[str, Callable[[], Dataset]]] = {
    "digits": ("1,797 handwritten digits, 8x8 grey, 10 classes", load_digits),
    "moons": ("8,000 points on two interleaved half circles, 2 classes", load_moons),
    "mixture": ("8,000 points from 8 Gaussians on a circle, 8 classes", load_mixture),
}


def sources() -> dict[str, str]:
    """Return the built-in sets: name to a description of one line."""
    return {name: line for name, (line, _) in SOURCES.items()}


def load_data(source: str | Path | Array | tuple[Array, Array], *, size: int | None = None,
              classes: bool | None = None) -> Dataset:
    """Return the data of a source.

    Args:
        source: the name of a built-in set (which wins over a path), a folder of pictures, a .npy or .npz file,
            an array or tensor of samples, or a pair of samples and labels.
        size: side of square pictures in pixels; a folder's are resized to it, other data must have it already.
        classes: None keeps labels where there are any, True demands them, False drops them.

    Raises:
        FileNotFoundError: a path that does not exist.
        TypeError: a source of another type.
        ValueError: an unknown name, data that cannot be used, a size that it has not, or labels that it lacks.
    """
    if classes not in (None, True, False):
        raise ValueError(f"classes is {classes!r}; it must be True, False or None")
    data = _load(source, size)
    shape = data.spec.shape
    if size is not None and shape[1:] != (size, size):
        raise ValueError(f"size {size} cannot be had: data {data.spec.name!r} has samples of shape {shape}; "
                         "only a folder of pictures is resized")
    if classes and not data.spec.classes:
        raise ValueError(f"classes are asked for, but data {data.spec.name!r} has no labels; leave classes out")
    if classes is False and data.spec.classes:
        data.labels = np.full_like(data.labels, -1)
        data.spec = replace(data.spec, classes=())
        data.notes.append("the labels were dropped")
    return data


def _load(source: str | Path | Array | tuple[Array, Array], size: int | None) -> Dataset:
    if isinstance(source, str | Path):
        if isinstance(source, str) and source in SOURCES:
            return SOURCES[source][1]()
        return _load_path(source, size)
    parts = source if isinstance(source, tuple) else (source,)
    if not 1 <= len(parts) <= 2 or not all(isinstance(part, Array) for part in parts):
        raise TypeError(f"data is {type(source).__name__}; it must be a name, a path, an array or tensor, "
                        "or a tuple of samples and labels")
    return load_array(*map(_numpy, parts))


def _load_path(source: str | Path, size: int | None) -> Dataset:
    path = Path(source).expanduser()
    if isinstance(source, str) and not (source and (path.exists() or path.suffix or "/" in source or os.sep in source)):
        try:
            require("data", source, SOURCES)
        except ValueError as error:
            raise ValueError(f"{printable(str(error))}; and no such path exists") from error
    return load_array_file(path) if path.suffix.lower() in (".npy", ".npz") and not path.is_dir() else (
        load_folder(path, size))


def _numpy(array: Array) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return array
    # numpy has no bfloat16; every bfloat16 is a float32.
    return (array.float() if array.dtype == torch.bfloat16 else array).detach().cpu().numpy()
