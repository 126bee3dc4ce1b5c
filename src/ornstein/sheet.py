"""Labelled sheets of samples of the same noise over values of one or two options, such as nfe and guidance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.arguments import require, short_repr
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers.rule import Rule
from ornstein.display import progress_callback
from ornstein.figures.formats import PICTURE_FORMATS, write_picture
from ornstein.figures.lattice import lattice
from ornstein.figures.pictures import picture
from ornstein.request import Request

__all__ = ["MAX_SAMPLES", "OPTIONS", "default_count", "save_sheet"]

OPTIONS = ("nfe", "steps", "tolerance", "sampler", "guidance", "label", "condition", "seed")
MAX_SAMPLES = 400  # of one sheet
MAX_ACROSS = 16  # samples side by side in a cell of a sheet of one option


def save_sheet(model: NetworkDenoiser, options: Mapping[str, Sequence[Any]], path: str | Path,
               request: Request | None = None, *, scale: int | None = None, facts: Mapping[str, Any] | None = None,
               progress: bool | Callable[[float], None] = False) -> None:
    """Draw the same noise for every value of one option, or every pair of values of two, on a labelled sheet.

    Args:
        model: of pictures.
        options: one or two of nfe, steps, tolerance, sampler, guidance, label, condition and seed, with their values:
            rows for the first, columns for the second.
        path: FILE.png, .jpg, .jpeg or .webp.
        request: all other options, including the number of samples in a cell. By default there are eight samples for
            each value of one option, and four for each pair of two, or one if four would be too many.
        scale: integer factor by which pixels are enlarged; by default as much as there is room for.
        facts: further metadata of the file.
        progress: as for `ornstein.sample`.

    Raises:
        ValueError: more than two options, an unknown option, one without values or with the same value twice, more than
            400 samples in all, a model of anything but pictures, or a cell that `Request.draw` refuses. Nothing is
            written then.
    """
    path, spec = Path(path), model.data
    if path.suffix.lower() not in PICTURE_FORMATS:
        raise ValueError(f"a sheet cannot be written as {path}; name a .png, .jpg or .webp file")
    if spec is None or spec.kind != "picture":
        raise ValueError(f"a sheet shows pictures, and this model draws samples of shape {tuple(model.shape)}; draw "
                         "them one value at a time")
    (first, rows), *others = _checked(options)
    request = request or Request(count=default_count(options))
    second, columns = others[0] if others else (None, [None])
    cells = len(rows) * len(columns)
    if cells * request.count > MAX_SAMPLES:
        remedy = f", or for at most {MAX_SAMPLES // cells} a cell" if cells <= MAX_SAMPLES else ""
        raise ValueError(f"a sheet of {cells} cells of {request.count} would have {cells * request.count} samples, and "
                         f"at most {MAX_SAMPLES} are allowed; ask for fewer values{remedy}")
    requests = [[dataclasses.replace(request, **({first: row} if second is None else {first: row, second: column}))
                 for column in columns] for row in rows]
    for cell in (cell for row in requests for cell in row if cell.tolerance is None):
        cell.frames(model)  # raises its errors before time is spent on other cells
    pictures = list[list[np.ndarray]]()
    with progress_callback(progress, "sampling") as report:
        for row in requests:
            pictures.append([])
            for cell in row:
                pictures[-1].append(picture(spec, cell.draw(model).cpu()))
                report(sum(map(len, pictures)) / cells)
    across = min(request.count, MAX_ACROSS) if second is None else max(1, round(request.count ** 0.5))
    image = lattice(pictures, [f"{first} {_name(row)}" for row in rows],
                    [_name(column) for column in columns if second], over=second or "", across=across, scale=scale)
    grid = {name: [_name(value) for value in values] for name, values in [(first, rows), *others]}
    write_picture(image, path, {**request.facts(), **(facts or {}), "grid": grid})


def default_count(options: Mapping[str, Sequence[Any]]) -> int:
    """The default number of samples in a cell."""
    if len(options) == 1:
        return 8
    return 4 if 4 * math.prod(map(len, options.values())) <= MAX_SAMPLES else 1


def _checked(options: Mapping[str, Sequence[Any]]) -> list[tuple[str, list[Any]]]:
    """The options with their values, after checking them."""
    if not 1 <= len(options) <= 2:
        raise ValueError(f"options are {', '.join(options) or 'none'}; a sheet has one option for its rows and perhaps "
                         "another for its columns")
    for name, values in options.items():
        require("option", name, OPTIONS)
        if isinstance(values, str) or not len(values):
            raise ValueError(f"{name} is {short_repr(values)}; it must be a list of values")
        for index, value in enumerate(values):
            if value in values[:index]:
                raise ValueError(f"{name} has {short_repr(value)} twice; name each value once")
    return [(name, list(values)) for name, values in options.items()]


def _name(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_name, value))
    return type(value).__name__ if isinstance(value, Rule) else f"{value:g}" if isinstance(value, float) else str(value)
