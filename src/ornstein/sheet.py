"""Samples over one option or two, on one labelled sheet: what nfe, guidance or the sampler does to the same noise."""

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
from ornstein.figures.formats import KINDS, write_picture
from ornstein.figures.lattice import lattice
from ornstein.figures.pictures import picture
from ornstein.request import Request

__all__ = ["MOST", "OPTIONS", "each", "save_sheet"]

OPTIONS = ("nfe", "steps", "tolerance", "sampler", "guidance", "label", "condition", "seed")
MOST = 400  # samples of one sheet
ACROSS = 16  # samples of one option beside one another, at most


def save_sheet(model: NetworkDenoiser, options: Mapping[str, Sequence[Any]], path: str | Path,
               request: Request | None = None, *, scale: int | None = None, facts: Mapping[str, Any] | None = None,
               progress: bool | Callable[[float], None] = False) -> None:
    """Draw the same noise at every value of one option, or at all pairs of values of two, on one labelled sheet.

    Args:
        model: of pictures.
        options: one or two of nfe, steps, tolerance, sampler, guidance, label, condition and seed, with their values:
            rows for the first, columns for the second.
        path: FILE.png, .jpg, .jpeg or .webp.
        request: everything else, the number of samples in a cell included, the same in every cell. None is eight
            samples for each value of one option, and four for each pair of two, or one where four would be too many.
        scale: whole factor that every pixel is enlarged by; None is what there is room for.
        facts: more that the file says of itself, beside the options.
        progress: as for `ornstein.sample`.

    Raises:
        ValueError: more than two options, an option that is unknown or has no values or the same one twice, more than
            400 samples in all, a model of anything but pictures, and what `Request.draw` refuses in any cell. Nothing
            is written then.
    """
    path, spec = Path(path), model.data
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"a sheet cannot be written as {path}; name a .png, .jpg or .webp file")
    if spec is None or spec.kind != "picture":
        raise ValueError(f"a sheet shows pictures, and this model draws samples of shape {tuple(model.shape)}; draw "
                         "them one value at a time")
    (first, rows), *others = _checked(options)
    request = request or Request(count=each(options))
    second, columns = others[0] if others else (None, [None])
    cells = len(rows) * len(columns)
    if cells * request.count > MOST:
        fewer = f", or for at most {MOST // cells} a cell" if cells <= MOST else ""
        raise ValueError(f"a sheet of {cells} cells of {request.count} would have {cells * request.count} samples, and "
                         f"{MOST} are the most; ask for fewer values{fewer}")
    asked = [[dataclasses.replace(request, **({first: row} if second is None else {first: row, second: column}))
              for column in columns] for row in rows]
    for one in (one for row in asked for one in row if one.tolerance is None):
        one.frames(model)  # which refuses what cannot be drawn before minutes are spent on the cells before it
    drawn = list[list[np.ndarray]]()
    with progress_callback(progress, "sampling") as tell:
        for row in asked:
            drawn.append([])
            for one in row:
                drawn[-1].append(picture(spec, one.draw(model).cpu()))
                tell(sum(map(len, drawn)) / cells)
    across = min(request.count, ACROSS) if second is None else max(1, round(request.count ** 0.5))
    image = lattice(drawn, [f"{first} {_name(row)}" for row in rows], [_name(column) for column in columns if second],
                    over=second or "", across=across, scale=scale)
    told = {name: [_name(value) for value in values] for name, values in [(first, rows), *others]}
    write_picture(image, path, {**request.facts(), **(facts or {}), "grid": told})


def each(options: Mapping[str, Sequence[Any]]) -> int:
    """How many samples a cell has where nobody says."""
    if len(options) == 1:
        return 8
    return 4 if 4 * math.prod(map(len, options.values())) <= MOST else 1


def _checked(options: Mapping[str, Sequence[Any]]) -> list[tuple[str, list[Any]]]:
    """The one or two options and their values, after refusing others."""
    if not 1 <= len(options) <= 2:
        raise ValueError(f"options are {', '.join(options) or 'none'}; a sheet has one option for its rows and perhaps "
                         "another for its columns")
    for name, values in options.items():
        require("option", name, OPTIONS)
        if isinstance(values, str) or not len(values):
            raise ValueError(f"{name} is {short_repr(values)}; it must be a list of values")
        for place, value in enumerate(values):
            if value in values[:place]:
                raise ValueError(f"{name} has {short_repr(value)} twice; name each value once")
    return [(name, list(values)) for name, values in options.items()]


def _name(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_name, value))
    return type(value).__name__ if isinstance(value, Rule) else f"{value:g}" if isinstance(value, float) else str(value)
