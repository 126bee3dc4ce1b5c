"""Results of edits as drawings and numbers: the given sample, draws, their mean and their spread."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ornstein import files
from ornstein.data import DataSpec
from ornstein.data.table import Table
from ornstein.figures.arrays import COLOURS, draw_arrays, draw_fields, new_figure, render, style_axes
from ornstein.figures.lattice import lattice
from ornstein.figures.pictures import picture

__all__ = ["LEVELS", "band_names", "draw_bands", "draw_edits", "edit_arrays", "fill_table", "summarise", "write_table"]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the quantiles that are saved and drawn
DRAWS, ROWS = 6, 10  # draws and samples that fit on a sheet
CHECKS = 170, 225  # greys of unknown pixels
MIN_SPREAD = 0.02  # smallest spread that is drawn white, relative to the data's range


def edit_arrays(spec: DataSpec, draws: Tensor, given: np.ndarray) -> dict[str, np.ndarray]:
    """Draws (B, count, *shape) as arrays in the data's own units and layout: x, mean, std, and quantiles, one for each
    entry of levels; also known, the mask of the values of the given samples (B, *shape) that x repeats, if they have
    that shape.
    """
    x = spec.decode(draws)
    found: dict[str, np.ndarray] = {"levels": np.array(LEVELS)}
    if given.shape[1:] == spec.shape and np.isnan(given).any():
        found["known"] = spec.arrange(np.where(np.isnan(given), 0, 1).astype(x.dtype)).astype(bool)
        x = np.where(np.isnan(given)[:, None], x, given[:, None]).astype(np.promote_types(x.dtype, np.float32))
    for name, values in {"x": x, **summarise(x)}.items():
        rows = values.reshape(-1, *spec.shape)
        found[name] = spec.arrange(rows).reshape(*values.shape[:-len(spec.shape)], *spec.arrange(rows).shape[1:])
    return found


def draw_edits(spec: DataSpec, action: str, draws: Tensor, given: np.ndarray | None) -> Image.Image:
    """Draw (B, count, *shape) draws beside the given samples: pictures in rows, traces and vectors as bands.

    The given samples are (B, *shape) in the data's own units, NaN where unknown, or None if they have another shape.
    """
    draws = draws[:ROWS].cpu()
    given = None if given is None else given[:len(draws)]
    names = [f"sample {row}" for row in range(len(draws))] if len(draws) > 1 else [""]
    if action == "interpolate" and spec.kind != "picture":
        return draw_arrays(spec, spec.decode(draws.flatten(0, 1)))
    if spec.kind == "picture":
        return _pictures(spec, action, draws, given, names)
    figures = summarise(spec.decode(draws))
    if len(spec.shape) < 3:
        return draw_bands(spec, figures, given, names)
    parts = [] if given is None else [("given", given[0])]
    parts += [(f"draw {n + 1}", spec.decode(draws[0, n])) for n in range(min(draws.shape[1], DRAWS))]
    parts += [("mean", figures["mean"][0])] * (draws.shape[1] > 1)
    stacked = np.stack([values for _, values in parts]).astype(np.float64)
    return draw_fields(stacked, [name for name, _ in parts], "rows")


def summarise(values: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and std (B, *shape) and quantiles (5, B, *shape) of draws (B, count, *shape) in the data's own units."""
    values = values.astype(np.float64)
    return {"mean": values.mean(1), "std": values.std(1), "quantiles": np.quantile(values, LEVELS, 1)}


def band_names(column: str) -> list[str]:
    """Names of the columns for the mean and the quantiles of a column."""
    return [f"{column}_mean", *(f"{column}_q{100 * level:02.0f}" for level in LEVELS)]


def fill_table(spec: DataSpec, found: Mapping[str, np.ndarray], table: Table, names: Sequence[str]) -> Table:
    """Fill the empty cells of a table with the median draw. Each column that had some is followed by the mean and the
    quantiles of the draws, which equal the value where it was known. `found` are the `edit_arrays` of the samples,
    whose entries are the columns `names`."""
    median = np.sort(found["x"], 1)[:, (found["x"].shape[1] - 1) // 2]
    result = Table()
    for name, column in table.items():
        result[name] = column
        if name in names and column.dtype.kind == "f" and np.isnan(column).any():
            entry = (...,) if column.ndim > 1 else (..., names.index(name))
            # Through text, so that float32 values keep only their significant digits.
            filled, *quantities = (
                np.where(np.isnan(column), values[entry].astype(median.dtype).astype(str).astype(float), column)
                for values in (median, found["mean"], *found["quantiles"]))
            if spec.rounds and (filled == np.trunc(filled)).all() and (abs(filled) < 2**53).all():
                filled = filled.astype(np.int64)
            result |= zip([name, *band_names(name)], [filled, *quantities], strict=True)
    return result


def write_table(table: Table, out: Path) -> None:
    """Write columns as a .csv or a .parquet file."""
    columns = [column.tolist() for column in table.values()]
    with files.replacing(out) as target:
        if out.suffix.lower() == ".csv":
            with target.open("w", encoding="utf-8", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(table)
                rows.writerows(["" if cell is None or cell != cell else cell for cell in row]
                               for row in zip(*columns, strict=True))
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table([pa.array(column, from_pandas=True) for column in columns], list(table)), target)


def _pictures(spec: DataSpec, action: str, draws: Tensor, given: np.ndarray | None,
              names: Sequence[str]) -> Image.Image:
    count = draws.shape[1]
    indices = range(count) if action == "interpolate" else range(min(count, DRAWS))
    columns: list[tuple[str, np.ndarray]] = [
        (_column_name(action, n, count), picture(spec, draws[:, n])) for n in indices]
    if given is not None and action != "interpolate":
        columns[:0] = [("given", _chequered(spec, given))]
    if action != "interpolate" and count > 1:
        low, high = spec.extent
        spread = (summarise(spec.decode(draws))["std"] / (high - low)).mean(1)
        largest = max(float(spread.max()), MIN_SPREAD)
        heat = np.round(255 * spread / largest).astype(np.uint8)[..., None].repeat(3, -1)
        columns += [("mean", picture(spec, draws.mean(1))), (f"spread to {100 * largest:.0f} %", heat)]
    return lattice([[cell[row:row + 1] for _, cell in columns] for row in range(len(draws))], names,
                   [name for name, _ in columns], across=1)


def _column_name(action: str, index: int, count: int) -> str:
    if action == "interpolate":
        return f"{100 * index / (count - 1):.0f} %"
    return "latent" if action == "invert" else str(index + 1)


def _chequered(spec: DataSpec, given: np.ndarray) -> np.ndarray:
    """The given pictures, (B, H, W, 3), chequered where they are unknown."""
    unknown = np.moveaxis(np.asarray(np.isnan(given).any(1, keepdims=True)), 1, -1)
    rows, columns, _ = np.indices(unknown.shape[1:])
    checks = np.where((rows + columns) % 2, *CHECKS).astype(np.uint8)
    return np.where(unknown, checks, picture(spec, spec.encode(np.nan_to_num(given))))


def draw_bands(spec: DataSpec, figures: dict[str, np.ndarray], given: np.ndarray | None, names: Sequence[str],
               known_name: str = "given") -> Image.Image:
    """Draw bands of traces, a plot for each sample and channel, or of vectors, a plot for each sample: the known
    values, the median, and the central 50 and 90 % of the draws.
    """
    traces = len(spec.shape) == 2
    channels, rows = spec.shape[0] if traces else 1, len(figures["mean"])
    figure = new_figure(max(4.2 * channels, 6.4), 1.7 * rows + 0.5)
    found = figures["quantiles"].reshape(len(LEVELS), rows, channels, -1)
    known = None if given is None else given.reshape(rows, channels, -1)
    positions: Any = np.arange(found.shape[-1])
    for (row, channel), axes in np.ndenumerate(figure.subplots(rows, channels, squeeze=False, sharex=True)):
        low, lower, median, upper, high = found[:, row, channel]
        if traces:
            axes.fill_between(positions, low, high, color=COLOURS[0], alpha=0.18, lw=0, label="90 % of the draws")
            axes.fill_between(positions, lower, upper, color=COLOURS[0], alpha=0.35, lw=0, label="50 %")
            axes.plot(positions, median, color=COLOURS[0], lw=1, label="median")
        else:
            axes.vlines(positions, low, high, color=COLOURS[0], alpha=0.3, lw=4, label="90 % of the draws")
            axes.vlines(positions, lower, upper, color=COLOURS[0], alpha=0.6, lw=4, label="50 %")
        if known is not None:
            axes.plot(positions, known[row, channel], "-" if traces else ".", color="black", lw=1, ms=6,
                      label=known_name)
        name = ", ".join(filter(None, [names[row], f"channel {channel}" if channels > 1 else ""]))
        style_axes(axes, name, x=("place" if traces else "value") if row == rows - 1 else "", size=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=4, fontsize=8,
                  frameon=False)
    return render(figure)
