"""Saving samples from Python: pictures, and films of them as they form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.arguments import require_int, short_repr
from ornstein.data import DataSpec
from ornstein.diffusion.samplers import Frame
from ornstein.figures import film, pictures
from ornstein.figures.formats import MAX_SCALE, film_format

__all__ = ["save_film", "save_pictures"]


def save_pictures(x: Tensor, path: str | Path, data: DataSpec | None = None, *, labels: Tensor | None = None,
                  scale: int | None = None, facts: Mapping[str, Any] | None = None) -> None:
    """Write samples as one sheet, as numbered pictures in a folder, or as numbers.

    Args:
        x: (B, *shape) samples in [-1, 1], as `ornstein.sample` draws them.
        path: FILE.png, .jpg, .jpeg or .webp for one sheet of all; FILE.npz, or FILE.csv for vectors, for numbers in the
            data's own units; else a folder for numbered pictures.
        data: the meaning of the values, such as `model.data`; None for bytes of grey (one channel), colour (three), or
            colour multiplied by opacity with that opacity (four).
        labels: (B,) class indices: names over the pictures of a sheet, in a folder's files and in a .csv; indices and
            the names of the classes in an .npz.
        scale: whole factor from 1 to 64 that every pixel is enlarged by; None is the largest that fits on a sheet, and
            1 in a folder.
        facts: metadata of the files, as JSON: in PNG under the key "ornstein", in JPEG and WebP as the
            description of EXIF.

    Raises:
        ValueError: shapes, labels or endings that do not fit; a folder with other numbered pictures.
        FileExistsError: a link or a device at the path.
    """
    path, spec = Path(path), _spec(x, data)
    pictures.check_output(spec, path)
    pictures.write(spec, x.detach().cpu(), _labels(labels, len(x), spec), path, facts or {}, scale=_scale(scale))


def save_film(frames: Iterable[Frame], path: str | Path, data: DataSpec | None = None, *,
              labels: Tensor | None = None, scale: int | None = None,
              facts: Mapping[str, Any] | None = None) -> Tensor:
    """Write the pictures of a walk as they form, as a film.

    Each moment is the latent at the scale of the data, z / max(1, hypot(signal, noise)); the last one is the finished
    samples, and is shown longer. Of walks of more than 120 steps only every second moment is shown, or every fourth ...

    Args:
        frames: the generator that `ornstein.generate` returns; it is exhausted.
        path: FILE.gif, .webp or .mp4, which needs the extra "film".
        data, labels, scale, facts: as for `save_pictures`.

    Returns:
        (count, *shape) the finished samples.

    Raises:
        ValueError: samples that are not pictures, or another ending.
        ModuleNotFoundError: an .mp4 file without the package `av`.
    """
    path = Path(path)
    film_format(path)
    frames = iter(frames)
    first = next(frames, None)
    if not isinstance(first, Frame):
        raise TypeError(f"frames hold {short_repr(first)}; give what ornstein.generate returns, not yet followed to "
                        "its end")
    spec, factor = _spec(first.latent, data), _scale(scale)
    film.check_data(spec)
    labels = _labels(labels, len(first.latent), spec)
    return film.write_film(chain([first], frames), path, spec, labels, factor, facts)


def _spec(x: Tensor, data: DataSpec | None) -> DataSpec:
    """Return the spec of samples, after checking that they fit it."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x is a {type(x).__name__}; it must be a tensor (torch.as_tensor makes one of an array)")
    if data is None:
        if x.ndim != 4 or x.shape[1] not in (1, 3, 4):
            raise ValueError(f"x has shape {tuple(x.shape)}; without data it must be pictures (B, 1, 3 or 4, H, W); "
                             "say what else it is, as data=model.data")
        data = DataSpec("samples", "picture", tuple(x.shape[1:]), 0.0, 255.0, 256,
                        mode="RGBA" if x.shape[1] == 4 else "")
    elif not isinstance(data, DataSpec):
        raise TypeError(f"data is a {type(data).__name__}; it must be an ornstein.DataSpec, such as model.data")
    if tuple(x.shape[1:]) != data.shape or not len(x):
        raise ValueError(f"x has shape {tuple(x.shape)}; data {data.name!r} have samples (B, "
                         f"{', '.join(map(str, data.shape))}) with B >= 1")
    return data


def _labels(labels: Tensor | None, count: int, spec: DataSpec) -> Tensor | None:
    if labels is None:
        return None
    labels = torch.as_tensor(labels, device="cpu")
    if tuple(labels.shape) != (count,) or labels.is_floating_point():
        raise ValueError(f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; they must be ({count},) "
                         "whole numbers, a class for each sample")
    for label in labels.unique().tolist():
        require_int("a label", label, 0, len(spec.classes) - 1)
    return labels


def _scale(scale: int | None) -> int | None:
    return None if scale is None else require_int("scale", scale, 1, MAX_SCALE)
